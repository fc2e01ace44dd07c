"""What a gateway may do with the genuine certificates of several machines: show, swap, repeat."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from hashlib import sha256

import pytest

from confide.client.proxy.keys import ModelKeys
from confide.client.proxy.workers import VerifiedWorker, Workers, choose
from confide.errors import UnavailableError, VerificationError
from confide.protocol.keyexchange import SealedKeyMessage
from confide.protocol.secret_service import KeyExchangeReply, KeyOffer
from confide.protocol.workers import ListedWorker, WorkerList
from confide.verify.nodes import verify_key_exchange, verify_workers
from tests.support.simulated_machine import MODEL, NOW, Clock
from tests.support.small_service import SmallService


@pytest.fixture
def service() -> SmallService:
    return SmallService(services=3, workers=2)


@pytest.fixture
def keys(service: SmallService) -> ModelKeys:
    return ModelKeys(service.gateway, clock=service.clock, monotonic=Clock(1000.0))


@pytest.fixture
def workers(service: SmallService) -> Workers:
    return Workers(service.gateway, clock=service.clock, monotonic=Clock(1000.0))


def show_services(service: SmallService, *offers: KeyOffer) -> str:
    """Show these from now on; what the verdict says of them."""
    reply = KeyExchangeReply(offers)
    service.lies["/confide/v1/key-exchange"] = lambda _: reply
    mesh = service.coordinator.mesh()
    verdict = verify_key_exchange(reply, mesh_ca=mesh.mesh_ca, root_ca=mesh.root_ca, now=NOW)
    return verdict.checks[0].seen


def show_workers(service: SmallService, *listed: ListedWorker) -> str:
    """Likewise."""
    shown = WorkerList(listed)
    service.lies["/confide/v1/workers"] = lambda _: shown
    mesh = service.coordinator.mesh()
    verdict = verify_workers(
        shown,
        minimum=0,
        manifest=service.manifest,
        mesh_ca=mesh.mesh_ca,
        root_ca=mesh.root_ca,
        now=NOW,
    )
    return verdict.checks[0].seen


def sealed_to(service: SmallService) -> list[bytes]:
    """The KEM keys, by hash, to which a key was sealed."""
    messages = [body for path, body in service.asked if path.endswith("/keys")]
    return [SealedKeyMessage.parse(message).kem_sha256 for message in messages]


def names(*offers: KeyOffer) -> list[bytes]:
    return [sha256(offer.kem_public_key).digest() for offer in offers]


def chosen(workers: Workers, service: SmallService, chats: int = 60) -> Counter[bytes]:
    """Which workers a number of conversations go to."""
    return Counter(
        workers.choose(service.established, MODEL, bytes([chat]) * 32, set()).id
        for chat in range(chats)
    )


# --- secret services --------------------------------------------------------------------------


def test_one_secret_service_eight_times_is_one(keys: ModelKeys, service: SmallService) -> None:
    favourite = service.offers()[0]
    said = show_services(service, *[favourite] * 8)
    assert said == "1 of the 8 that the gateway showed"
    key = keys.get(service.established, MODEL)
    assert (key.accepted, key.shown) == (1, 8)
    assert sealed_to(service) == names(favourite)


def test_only_the_gateway_s_favourite(keys: ModelKeys, service: SmallService) -> None:
    """The verdict says how many there are. One that is hostile opens nothing without a worker."""
    favourite = service.offers()[1]
    assert show_services(service, favourite) == "1 of the 1 that the gateway showed"
    assert keys.get(service.established, MODEL).accepted == 1
    assert sealed_to(service) == names(favourite)


def test_secret_services_with_each_other_s_kem_keys(keys: ModelKeys, service: SmallService) -> None:
    """All certificates and all KEM keys are genuine; only the pairs are not."""
    one, two, three = service.offers()
    swapped = (
        replace(one, kem_public_key=two.kem_public_key),
        replace(two, kem_public_key=one.kem_public_key),
    )
    assert show_services(service, *swapped).startswith("0 of the 2")
    with pytest.raises(VerificationError) as caught:
        keys.get(service.established, MODEL)
    assert caught.value.code == "no-secret-service"
    assert show_services(service, *swapped, three).startswith("1 of the 3")
    keys.get(service.established, MODEL)
    assert sealed_to(service) == names(three)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0,)], ids=["newest last", "old last", "old"])
def test_the_certificate_before_counts_once_and_only_for_its_hour(
    keys: ModelKeys, service: SmallService, order: tuple[int, ...]
) -> None:
    """Whichever is shown, the machine counts once. The private key of either is still there."""
    old = service.offers()[0]
    service.nodes[0].join()
    both = (old, service.offers()[0])
    said = show_services(service, *(both[number] for number in order))
    assert said == f"1 of the {len(order)} that the gateway showed"
    assert keys.get(service.established, MODEL).accepted == 1
    service.clock.now += 3601
    fresh = ModelKeys(service.gateway, clock=service.clock, monotonic=Clock(1000.0))
    with pytest.raises(VerificationError) as caught:
        fresh.get(service.established, MODEL)
    assert caught.value.code == "no-secret-service"


def test_workers_as_secret_services(keys: ModelKeys, service: SmallService) -> None:
    posing = [KeyOffer(w.certificate, w.kem_public_key) for w in service.listed()]
    genuine = service.offers()[2]
    assert show_services(service, *posing, genuine).startswith("1 of the 3")
    keys.get(service.established, MODEL)
    assert sealed_to(service) == names(genuine)


# --- workers ----------------------------------------------------------------------------------


def test_a_worker_that_is_listed_often_gets_no_more(
    workers: Workers, service: SmallService
) -> None:
    one, two = service.listed()
    said = show_workers(service, *[one] * 200, two)
    assert said == "2 of the 201 that the gateway showed"
    spread = chosen(workers, service, 200)
    assert set(spread) == {one.worker, two.worker} and min(spread.values()) > 50


def test_workers_with_each_other_s_kem_keys_or_names(
    workers: Workers, service: SmallService
) -> None:
    """A share must not reach the machine beside the one that the client means."""
    one, two = service.listed()
    swapped = (
        replace(one, kem_public_key=two.kem_public_key),
        replace(two, kem_public_key=one.kem_public_key),
        replace(one, worker=two.worker),
        replace(two, worker=one.worker),
    )
    assert show_workers(service, *swapped).startswith("0 of the 4")
    with pytest.raises(UnavailableError) as caught:
        chosen(workers, service)
    assert caught.value.code == "no-verified-worker"


def test_a_bad_entry_does_not_replace_a_good_one(workers: Workers, service: SmallService) -> None:
    """Whatever stands beside or after it under the same name."""
    one, two = service.listed()
    bad = replace(one, kem_public_key=two.kem_public_key)
    assert show_workers(service, bad, one, bad, two).startswith("2 of the 4")
    assert set(chosen(workers, service)) == {one.worker, two.worker}


def test_a_worker_s_certificate_of_before_is_the_same_worker(
    workers: Workers, service: SmallService
) -> None:
    old = service.listed()[0]
    service.workers[0].join()
    new = service.listed()[0]
    assert show_workers(service, new, old) == "1 of the 2 that the gateway showed"
    worker = workers.choose(service.established, MODEL, bytes(32), set())
    assert service.workers[0].kem.find(worker.kem_sha256), "what is sealed to it opens there"


def test_what_a_gateway_gains_by_lying_about_load() -> None:
    """docs/threat-model.md: one of two workers; half the requests of three; and a third of many."""

    def gets(*loads: int) -> Counter[int]:
        made = [VerifiedWorker(bytes([n]) * 32, b"", b"", b"", NOW) for n in range(len(loads))]
        said = {worker.id: load for worker, load in zip(made, loads, strict=True)}
        return Counter(
            choose(made, said, number.to_bytes(32, "big"), bytes(32)).id[0] for number in range(600)
        )

    huge = 1 << 20
    assert gets(0, huge) == {0: 600}
    for loads in ((0, huge, huge), (0, huge // 2, huge), (0, 0, huge)):
        assert max(gets(*loads).values()) < 360
    avoided = gets(0, 0, 0, 0, *[huge] * 5)
    assert sum(avoided[number] for number in range(4, 9)) < 100, "five of nine"
    kept = gets(0, 0, 0, *[huge] * 6)
    assert set(kept) == set(range(9)) and min(kept.values()) > 30, "six of nine are too many"
