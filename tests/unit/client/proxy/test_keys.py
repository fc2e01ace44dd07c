"""The keys of models: one for each, at its first use, to every secret service that passes."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from confide.client.proxy import keys as keys_module
from confide.client.proxy.keys import REPLACE_SECONDS, ModelKey, ModelKeys
from confide.encoding.x509 import load_certificate
from confide.errors import ConfideError, UnavailableError, VerificationError
from confide.protocol.certificates import parse_leaf
from confide.protocol.keyexchange import KEY_REPLACE_AFTER, SealedKeyMessage, open_key, worker_key
from tests.support.simulated_machine import NOW, Clock, manifest_bytes, manifest_value
from tests.support.small_service import SmallService

TINY = manifest_value()["models"][0]
TWO_MODELS = manifest_bytes(models=[TINY, TINY | {"name": "second"}])


@pytest.fixture
def service() -> SmallService:
    return SmallService(manifest=TWO_MODELS, services=3)


@pytest.fixture
def monotonic() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def keys(service: SmallService, monotonic: Clock) -> ModelKeys:
    return ModelKeys(service.gateway, clock=service.clock, monotonic=monotonic)


def get(keys: ModelKeys, service: SmallService, model: str = "tiny") -> ModelKey:
    return keys.get(service.established, model)


def test_one_key_goes_to_every_secret_service(keys: ModelKeys, service: SmallService) -> None:
    key = get(keys, service)
    assert (key.accepted, key.shown) == (3, 3)
    assert service.paths() == ["key-exchange", "keys", "keys", "keys"]
    worker = service.workers[0].membership()
    identity = parse_leaf(load_certificate(worker.certificate, "worker"))
    released = {secrets.get(key.key_id, identity).key for secrets in service.secrets}
    assert released == {worker_key(key.key.key, worker=worker.worker_id, model="tiny")}


def test_a_key_of_its_own_for_each_model(keys: ModelKeys, service: SmallService) -> None:
    one, two = get(keys, service, "tiny"), get(keys, service, "second")
    assert one.key.key != two.key.key and one.key_id != two.key_id
    assert get(keys, service) is one
    assert service.paths().count("key-exchange") == 2


def test_it_is_replaced_after_45_minutes(
    keys: ModelKeys, service: SmallService, monotonic: Clock
) -> None:
    one = get(keys, service)
    monotonic.now += 2699
    assert get(keys, service) is one
    monotonic.now += 1
    assert get(keys, service) is not one


def test_another_mesh_has_another_key(keys: ModelKeys, service: SmallService) -> None:
    one = get(keys, service)
    other = SmallService(manifest=TWO_MODELS)
    service.lies["/confide/v1/key-exchange"] = lambda reply: replace(reply, services=other.offers())
    service.secrets, service.nodes = other.secrets, other.nodes
    two = keys.get(other.established, "tiny")
    assert two.key.key != one.key.key


def test_a_secret_service_that_does_not_pass_gets_no_key(
    keys: ModelKeys, service: SmallService
) -> None:
    """The gateway puts a genuine one of another mesh, with its KEM key, into the list."""
    stranger = SmallService(manifest=TWO_MODELS)
    service.lies["/confide/v1/key-exchange"] = lambda reply: replace(
        reply, services=(stranger.offers()[0], *reply.services[:1])
    )
    key = get(keys, service)
    assert (key.accepted, key.shown) == (1, 2)
    (message,) = [body for path, body in service.asked if path.endswith("keys")]
    genuine = sha256(service.offers()[0].kem_public_key).digest()
    assert SealedKeyMessage.parse(message).kem_sha256 == genuine
    living = next(iter(stranger.nodes[0].kem._keys.values()))
    with pytest.raises(ConfideError):
        open_key(
            SealedKeyMessage.parse(message),
            living.key,
            manifest_sha256=service.manifest.sha256,
            now=int(service.clock.now),
        )


@pytest.mark.parametrize("shown", ["none", "strangers", "too old"])
def test_no_secret_service_that_passes(keys: ModelKeys, service: SmallService, shown: str) -> None:
    established = service.established
    if shown == "too old":
        service.clock.now += 3601
    strangers = SmallService(manifest=TWO_MODELS).offers() if shown == "strangers" else ()
    if shown != "too old":
        service.lies["/confide/v1/key-exchange"] = lambda reply: replace(reply, services=strangers)
    with pytest.raises(UnavailableError if shown == "none" else VerificationError) as caught:
        keys.get(established, "tiny")
    assert caught.value.code == "no-secret-service"
    assert service.paths() == ["key-exchange"], "nothing was sent"


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_one_that_takes_it_is_enough(keys: ModelKeys, service: SmallService, taken: int) -> None:
    """The gateway drops uploads: fewer copies, and the client knows how many."""
    for secrets in service.secrets[taken:]:
        secrets._max_keys = 0
    if taken:
        assert get(keys, service).accepted == taken
    else:
        with pytest.raises(UnavailableError) as caught:
            get(keys, service)
        assert caught.value.code == "too-many-keys"


def test_an_answer_for_another_key_is_none(keys: ModelKeys, service: SmallService) -> None:
    service.lies["/confide/v1/keys"] = lambda accepted: replace(accepted, key_id=bytes(32))
    with pytest.raises(VerificationError) as caught:
        get(keys, service)
    assert caught.value.code == "wrong-key-id"


def test_one_that_hangs_does_not_hold_up_the_request(
    keys: ModelKeys, service: SmallService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "PATIENCE_SECONDS", 0.05)
    release, first = threading.Event(), threading.Lock()

    def hang(accepted: Any) -> Any:
        if first.acquire(blocking=False):
            release.wait(10)
        return accepted

    service.lies["/confide/v1/keys"] = hang
    start = time.monotonic()
    assert get(keys, service).accepted == 2
    assert time.monotonic() - start < 5
    release.set()


def test_many_requests_at_once_make_one_key(keys: ModelKeys, service: SmallService) -> None:
    found: list[ModelKey] = []
    threads = [threading.Thread(target=lambda: found.append(get(keys, service))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({key.key_id for key in found}) == 1
    assert service.paths().count("key-exchange") == 1


def test_an_unknown_key_is_replaced_once_for_all_threads(
    keys: ModelKeys, service: SmallService
) -> None:
    stale = get(keys, service)
    found: list[ModelKey] = []

    def replace_it() -> None:
        found.append(keys.replace(service.established, stale))

    threads = [threading.Thread(target=replace_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (new,) = {id(key): key for key in found}.values()
    assert new is not stale and get(keys, service) is new


def test_forged_reports_cost_one_key_in_ten_seconds(
    keys: ModelKeys, service: SmallService, monotonic: Clock
) -> None:
    key = keys.replace(service.established, get(keys, service))
    service.paths()
    for _ in range(100):
        with pytest.raises(UnavailableError) as caught:
            keys.replace(service.established, key)
        assert caught.value.code == "key-just-replaced"
    assert service.paths() == []
    monotonic.now += REPLACE_SECONDS
    assert keys.replace(service.established, key) is not key


def test_numbers_of_requests(keys: ModelKeys, service: SmallService) -> None:
    """Each worker has its own count, and no number comes twice."""
    key = get(keys, service)
    one, two = b"\1" * 32, b"\2" * 32
    assert [key.next_for(worker)[1] for worker in (one, one, two, one, two)] == [0, 1, 0, 2, 1]
    assert key.next_for(one)[0] == worker_key(key.key.key, worker=one, model="tiny")
    assert get(keys, service, "second").next_for(one)[1] == 0


def test_keys_are_not_shown(keys: ModelKeys, service: SmallService) -> None:
    key = get(keys, service)
    assert key.key.key.hex() not in repr(key) and repr(key.key.key) not in repr(key)


@pytest.mark.parametrize("ahead", [-300, 300])
def test_two_clocks_that_both_differ_from_the_coordinator_s(ahead: int) -> None:
    """Each is within what a handshake and a join allow, in the other direction."""
    service = SmallService()
    service.secrets[0]._now = Clock(NOW - ahead)
    keys = ModelKeys(service.gateway, clock=Clock(NOW + ahead), monotonic=Clock(1000.0))
    key = keys.get(service.established, "tiny")
    certificate = service.workers[0].membership().certificate
    identity = parse_leaf(load_certificate(certificate, "worker's"))
    left = service.secrets[0].get(key.key_id, identity).expires_in
    assert left >= 3000 > KEY_REPLACE_AFTER


def test_a_replacement_that_failed_may_be_tried_again_at_once(
    keys: ModelKeys, service: SmallService
) -> None:
    """A gateway shows a secret service that was started anew some seconds late."""
    stale = get(keys, service)
    service.status = 503
    with pytest.raises(UnavailableError):
        keys.replace(service.established, stale)
    service.status = 200
    made = keys.replace(service.established, stale)
    assert made.key_id != stale.key_id
    with pytest.raises(UnavailableError, match="it is new"):
        keys.replace(service.established, made)


def test_a_list_that_was_held_up_is_judged_when_it_comes(
    keys: ModelKeys, service: SmallService
) -> None:
    def late(shown: Any) -> Any:
        service.clock.now += 3601
        return shown

    service.lies["/confide/v1/key-exchange"] = late
    with pytest.raises(VerificationError, match="is not valid at this time") as caught:
        get(keys, service)
    assert caught.value.code == "no-secret-service"


def test_a_key_serves_on_while_no_secret_service_takes_another(
    keys: ModelKeys, service: SmallService, monotonic: Clock
) -> None:
    """Workers have it. It is tried again every ten seconds, until the key's hour is over."""
    first = get(keys, service)
    monotonic.now += KEY_REPLACE_AFTER
    service.status = 503
    service.asked.clear()
    for _ in range(3):
        assert get(keys, service) is first
    assert len(service.asked) == 1
    monotonic.now += REPLACE_SECONDS
    assert get(keys, service) is first and len(service.asked) == 2
    service.status = 200
    monotonic.now += REPLACE_SECONDS
    second = get(keys, service)
    assert second is not first
    monotonic.now += 3600
    service.status = 503
    with pytest.raises(UnavailableError):
        get(keys, service)


@pytest.mark.parametrize("shown", ["none", "strangers"])
def test_a_key_serves_on_while_no_secret_service_passes(
    keys: ModelKeys, service: SmallService, monotonic: Clock, shown: str
) -> None:
    """A gateway shows an empty list while it reaches none of them."""
    first = get(keys, service)
    monotonic.now += KEY_REPLACE_AFTER
    others = SmallService(manifest=TWO_MODELS).offers() if shown == "strangers" else ()
    service.lies["/confide/v1/key-exchange"] = lambda reply: replace(reply, services=others)
    assert get(keys, service) is first
    del service.lies["/confide/v1/key-exchange"]
    monotonic.now += REPLACE_SECONDS
    assert get(keys, service) is not first


def test_a_client_that_nobody_asks_forgets_its_keys(
    keys: ModelKeys, service: SmallService, monotonic: Clock
) -> None:
    get(keys, service)
    monotonic.now += 3599
    keys.forget()
    assert keys._keys
    monotonic.now += 1
    keys.forget()
    assert not keys._keys


def test_a_key_that_is_renewed_serves_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests do not wait for a gateway that is silent at the renewal."""
    service = SmallService()
    clock = Clock(1000.0)
    keys = ModelKeys(service.gateway, clock=service.clock, monotonic=clock)
    first = keys.get(service.established, "tiny")
    clock.now = first.due
    asked, let_go, plain = threading.Event(), threading.Event(), service.gateway.ask

    def ask(*arguments: Any, **options: Any) -> bytes:
        asked.set()
        assert let_go.wait(20)
        return plain(*arguments, **options)

    monkeypatch.setattr(service.gateway, "ask", ask)
    renewal = threading.Thread(target=keys.get, args=(service.established, "tiny"))
    renewal.start()
    assert asked.wait(10)
    assert keys.get(service.established, "tiny") is first
    let_go.set()
    renewal.join()
    assert keys.get(service.established, "tiny") is not first


def test_a_secret_service_that_hangs_does_not_stop_the_keys_of_many_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keys_module, "PATIENCE_SECONDS", 0.01)
    names = ["tiny", *(f"model-{number}" for number in range(9))]
    manifest = manifest_bytes(models=[TINY | {"name": name} for name in names])
    service = SmallService(manifest=manifest, services=2)
    let_go, plain = threading.Event(), service.gateway.ask
    hangs = sha256(service.offers()[0].kem_public_key).digest()

    def ask(
        method: str, path: str, body: bytes | None = None, *, limit: int, until: float
    ) -> bytes:
        if body and SealedKeyMessage.parse(body).kem_sha256 == hangs:
            assert let_go.wait(20)
        return plain(method, path, body, limit=limit, until=until)

    monkeypatch.setattr(service.gateway, "ask", ask)
    keys = ModelKeys(service.gateway, clock=service.clock, monotonic=Clock(1000.0))
    done: list[ModelKey] = []

    def make_all() -> None:
        done.extend(keys.get(service.established, name) for name in names)

    maker = threading.Thread(target=make_all)
    maker.start()
    maker.join(5)
    count = len(done)
    let_go.set()
    maker.join()
    assert count == len(names)
