"""Which worker gets a request: verified, chosen by the client, and by nobody else."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from confide.client.proxy.workers import REFRESH_SECONDS, VerifiedWorker, Workers, choose
from confide.errors import FormatError, UnavailableError
from confide.protocol.share import open_share
from confide.protocol.workers import WorkerList
from tests.support.simulated_machine import MODEL, NOW, Clock
from tests.support.small_service import SmallService

CHAT = b"\x11" * 32


@pytest.fixture
def service() -> SmallService:
    return SmallService(workers=3)


@pytest.fixture
def monotonic() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def workers(service: SmallService, monotonic: Clock) -> Workers:
    return Workers(service.gateway, clock=service.clock, monotonic=monotonic)


def pick(
    workers: Workers, service: SmallService, chat: bytes = CHAT, *tried: bytes
) -> VerifiedWorker:
    return workers.choose(service.established, "tiny", chat, set(tried))


def ids(service: SmallService) -> set[bytes]:
    return {node.membership().worker_id for node in service.workers}


def test_a_conversation_stays_with_its_worker(workers: Workers, service: SmallService) -> None:
    assert len({pick(workers, service).id for _ in range(20)}) == 1
    assert service.paths() == ["workers?model=tiny"]


def test_conversations_spread(workers: Workers, service: SmallService) -> None:
    spread = Counter(pick(workers, service, bytes([n]) * 32).id for n in range(200))
    assert set(spread) == ids(service) and min(spread.values()) > 30


def test_a_gateway_cannot_tell_where_a_conversation_goes(
    service: SmallService, monotonic: Clock
) -> None:
    """Two clients with the same first message and list choose by secrets of their own."""

    def chosen() -> bytes:
        client = Workers(service.gateway, clock=service.clock, monotonic=monotonic)
        return pick(client, service).id

    assert len({chosen() for _ in range(30)}) == 3


def test_one_that_was_tried_is_not_chosen_again(workers: Workers, service: SmallService) -> None:
    one = pick(workers, service)
    two = pick(workers, service, CHAT, one.id)
    three = pick(workers, service, CHAT, one.id, two.id)
    assert {one.id, two.id, three.id} == ids(service)
    with pytest.raises(UnavailableError) as caught:
        pick(workers, service, CHAT, one.id, two.id, three.id)
    assert caught.value.code == "no-verified-worker"


def test_only_what_passes_is_chosen(workers: Workers, service: SmallService) -> None:
    """Of another mesh; another KEM key; another name; a secret service: none is ever chosen."""
    stranger = SmallService().listed()[0]
    good, other, _ = service.listed()
    secret = service.nodes[0].membership()
    bad = (
        stranger,
        replace(other, kem_public_key=good.kem_public_key),
        replace(other, worker=stranger.worker),
        replace(good, worker=secret.worker_id, certificate=secret.certificate),
    )
    service.lies["/confide/v1/workers"] = lambda shown: WorkerList((*bad, good))
    assert {pick(workers, service, bytes([n]) * 32).id for n in range(50)} == {good.worker}
    service.lies["/confide/v1/workers"] = lambda shown: WorkerList(bad)
    fresh = Workers(service.gateway, clock=service.clock, monotonic=Clock())
    with pytest.raises(UnavailableError, match="0 of the 4 that the gateway showed") as caught:
        pick(fresh, service)
    assert "the first that did not pass" in caught.value.seen


def test_a_worker_without_the_model(service: SmallService, workers: Workers) -> None:
    idle = service.join("worker-cpu", models=())
    member = idle.membership()
    listed = replace(
        service.listed()[0],
        worker=member.worker_id,
        certificate=member.certificate,
        kem_public_key=member.kem_public_key,
    )
    service.lies["/confide/v1/workers"] = lambda _: WorkerList((listed,))
    with pytest.raises(UnavailableError, match="does not name the model"):
        pick(workers, service)


def test_a_certificate_counts_for_an_hour(
    workers: Workers, service: SmallService, monotonic: Clock
) -> None:
    """Then the list is asked for again, and what is in it must pass again."""
    worker = pick(workers, service)
    assert worker.expires == NOW + 3600
    service.clock.now += 3601
    monotonic.now += 3601
    with pytest.raises(UnavailableError, match="0 of the 3"):
        pick(workers, service)
    service.workers = [service.join("worker-cpu", ("tiny",))]
    service.loads = [0]
    monotonic.now += 1
    assert {pick(workers, service).id} == ids(service)


def test_a_share_for_each_worker_and_certificate(
    workers: Workers, service: SmallService, monotonic: Clock
) -> None:
    first = pick(workers, service)
    node = next(n for n in service.workers if n.membership().worker_id == first.id)
    share, sealed = first.share
    living = node.kem.find(first.kem_sha256)
    assert living is not None
    opened = open_share(sealed, living.key, manifest_sha256=service.manifest.sha256)
    assert opened == share == pick(workers, service).share[0]
    node.join()
    workers.note("tiny", "another hash")
    monotonic.now += 1
    renewed = pick(workers, service)
    assert renewed.id == first.id and renewed.share[0] != share


def test_a_share_outlives_a_new_list(
    workers: Workers, service: SmallService, monotonic: Clock
) -> None:
    share = pick(workers, service).share
    service.loads[0] = 1
    workers.note("tiny", "another hash")
    monotonic.now += 1
    assert pick(workers, service).share == share
    assert len(service.paths()) == 2


def test_the_list_is_fetched_again_only_when_its_hash_changed(
    workers: Workers, service: SmallService, monotonic: Clock
) -> None:
    pick(workers, service)
    digest = workers._pools["tiny"].digest
    for seen in (digest, "", digest):
        workers.note("tiny", seen)
        monotonic.now += 100
        pick(workers, service)
    assert len(service.paths()) == 1
    for _ in range(50):
        workers.note("tiny", "a hash that the gateway made up")
        monotonic.now += 0.1
        pick(workers, service)
    assert 4 <= len(service.paths()) <= 6, "once a second"


def test_a_list_that_comes_with_a_421(workers: Workers, service: SmallService) -> None:
    gone = pick(workers, service)
    service.workers = [n for n in service.workers if n.membership().worker_id != gone.id]
    service.loads.pop()
    encoded = WorkerList(service.listed()).encode()
    workers.take(service.established, "tiny", encoded)
    assert pick(workers, service).id != gone.id
    assert len(service.paths()) == 1
    with pytest.raises(FormatError):
        workers.take(service.established, "tiny", b"x")


def test_another_mesh(workers: Workers, service: SmallService) -> None:
    """What passed in one mesh counts for nothing in another."""
    pick(workers, service)
    other = SmallService()
    with pytest.raises(UnavailableError, match="0 of the 3"):
        workers.choose(other.established, "tiny", CHAT, set())


def test_load_moves_a_conversation_to_its_second_worker_and_back(
    workers: Workers, service: SmallService, monotonic: Clock
) -> None:
    first = pick(workers, service)
    second = pick(workers, service, CHAT, first.id)
    number = [node.membership().worker_id for node in service.workers].index(first.id)
    for load, expected in ((64, second.id), (0, first.id)):
        service.loads[number] = load
        workers.note("tiny", "changed")
        monotonic.now += 1
        assert pick(workers, service).id == expected


def test_own_requests_count_as_load(workers: Workers, service: SmallService) -> None:
    first = pick(workers, service)
    with workers.busy(first), workers.busy(first), workers.busy(first):
        assert pick(workers, service).id != first.id
    assert pick(workers, service).id == first.id
    assert not workers._in_flight


def test_two_overloaded_ones_give_way_to_the_less_loaded_of_two(service: SmallService) -> None:
    made = [VerifiedWorker(bytes([n]) * 32, b"", b"", b"", NOW) for n in range(6)]
    secret = bytes(32)
    idle = dict.fromkeys((worker.id for worker in made), 0)
    first = choose(made, idle, CHAT, secret)
    rest = [worker for worker in made if worker.id != first.id]
    second = choose(rest, idle, CHAT, secret)
    loads = idle | {first.id: 100, second.id: 100}
    picks = Counter(choose(made, loads, CHAT, secret).id for _ in range(300))
    assert picks[first.id] + picks[second.id] < 60, "only as the pair that was drawn"
    assert len(picks) >= 4


def test_a_later_list_must_show_as_many_workers(service: SmallService, monotonic: Clock) -> None:
    """A gateway shows all for the handshake, and one of them when requests are sent."""
    workers = Workers(service.gateway, minimum=2, clock=service.clock, monotonic=monotonic)
    pick(workers, service)
    only = WorkerList(service.listed()[:1])
    for number in range(2):
        if number:
            workers.take(service.established, "tiny", only.encode())
        else:
            service.lies["/confide/v1/workers"] = lambda _: only
            workers.note("tiny", "another hash")
            monotonic.now += 1
        with pytest.raises(UnavailableError) as caught:
            pick(workers, service)
        assert caught.value.code == "too-few-workers"
    # Nothing was sent, so no answer says that the list has changed: it is asked for again.
    service.lies.clear()
    monotonic.now += 1
    assert pick(workers, service).id in ids(service)


def test_a_client_that_nobody_asks_forgets_its_shares(
    workers: Workers, service: SmallService
) -> None:
    _ = pick(workers, service).share
    service.clock.now += 3599
    workers.forget_expired()
    assert workers._pools
    service.clock.now += 1
    workers.forget_expired()
    assert not workers._pools


def test_a_list_that_is_fetched_again_serves_meanwhile(
    workers: Workers, service: SmallService, monotonic: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests do not wait for a gateway that is slow with a newer list."""
    first = workers.choose(service.established, MODEL, b"c" * 32, set())
    asked, let_go, plain = threading.Event(), threading.Event(), service.gateway.ask

    def ask(*arguments: Any, **options: Any) -> bytes:
        asked.set()
        assert let_go.wait(20)
        return plain(*arguments, **options)

    monkeypatch.setattr(service.gateway, "ask", ask)
    workers.note(MODEL, "00" * 32)
    monotonic.now += REFRESH_SECONDS
    choose = partial(workers.choose, service.established, MODEL, b"c" * 32, set())
    other = threading.Thread(target=choose)
    other.start()
    assert asked.wait(10)
    assert choose().id == first.id
    let_go.set()
    other.join()
