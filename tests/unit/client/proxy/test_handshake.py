"""What the proxy believes before it sends a prompt.

Real coordinator and secret service, SIMULATED machines, a gateway that answers what a test wants.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from confide.client.collateral.finder import offline
from confide.client.proxy import gateway as gateway_module
from confide.client.proxy.gateway import SETUP_SECONDS, Gateway
from confide.client.proxy.handshake import Handshake
from confide.client.service_verdict import ServiceVerdict
from confide.encoding.canonical import json_encode
from confide.errors import (
    ConfideError,
    FormatError,
    PolicyError,
    UnavailableError,
    VerificationError,
)
from confide.net.calls import Caller
from confide.protocol.collateral import Bundle
from confide.protocol.coordinator import Attestation
from confide.protocol.manifest import Manifest
from confide.protocol.secret_service import KeyExchangeReply, KeyOffer
from tests.support import production
from tests.support.simulated_machine import NOW, Clock, SimulatedMachine, manifest_bytes
from tests.support.small_service import SmallService
from tests.support.snp_policy import policy_json

MANIFEST = manifest_bytes()
ANY_CHIP = production.manifest_value()["platforms"] | {
    "sev-snp": policy_json(chip_ids=[], opt_outs=["insecure_any_chip"])
}


def handshake(
    service: SmallService,
    *,
    manifest: bytes = MANIFEST,
    now: int = NOW,
    opt_outs: Collection[str] = (),
    min_workers: int = 0,
) -> Handshake:
    return Handshake(
        service.gateway,
        manifest=manifest,
        find_collateral=offline(),
        clock=Clock(now),
        opt_outs=opt_outs,
        min_workers=min_workers,
    )


def failed_check(gateway: SmallService, **options: Any) -> str:
    """The name of the first failed check; the person has been shown it, too."""
    shown: list[ServiceVerdict] = []
    with pytest.raises(VerificationError) as caught:
        handshake(gateway, **options).run(shown.append)
    verdict = shown[0].whole
    assert len(shown) == 1
    assert verdict.first_failed is not None
    assert repr(verdict.first_failed.name) in str(caught.value)
    return verdict.first_failed.name


def test_an_honest_service() -> None:
    gateway = SmallService()
    shown: list[ServiceVerdict] = []
    established = handshake(gateway).run(shown.append)
    assert shown[0].passed
    assert established.manifest.sha256 == gateway.manifest.sha256
    assert established.seconds == 3600
    seen = [check.seen for check in shown[0].whole.checks[-2:]]
    assert seen == [
        "1 of the 1 that the gateway showed",
        "1 of the 1 that the gateway showed",
    ]


def test_each_handshake_has_its_own_nonce() -> None:
    gateway, nonces = SmallService(), []
    for _ in range(2):
        handshake(gateway).run(lambda _: None)
        nonces.append(next(body for path, body in gateway.asked[-3:] if path.endswith("attest")))
    assert nonces[0] != nonces[1]


def test_nothing_is_sealed_before_it_is_needed() -> None:
    """No key is made for models that nobody uses."""
    gateway = SmallService()
    handshake(gateway).run(lambda _: None)
    assert [path for path, _ in gateway.asked] == [
        "/confide/v1/attest",
        "/confide/v1/key-exchange",
        "/confide/v1/workers?model=tiny",
    ]


def test_another_manifest_than_the_pinned_one() -> None:
    pinned = MANIFEST.replace(b'"cdcd', b'"cdce')
    assert failed_check(SmallService(), manifest=pinned) == "manifest"


def test_the_pinned_manifest_served_by_a_machine_that_was_not_attested_with_it() -> None:
    """A gateway swaps the manifest in the answer: what the evidence binds is another one."""
    pinned = MANIFEST.replace(b'"cdcd', b'"cdce')
    gateway = SmallService()
    gateway.lies["/confide/v1/attest"] = lambda a: replace(a, manifest=pinned)
    assert failed_check(gateway, manifest=pinned) == "quote binding"


def test_another_image() -> None:
    machine = SimulatedMachine("coordinator", events={4: bytes(range(32))})
    gateway = SmallService()
    gateway.start_coordinator(machine)
    assert failed_check(gateway).startswith("PCR 4")


def test_another_role_s_image() -> None:
    machine = SimulatedMachine("secret-service")
    gateway = SmallService()
    gateway.start_coordinator(machine)
    assert failed_check(gateway).startswith("PCR 0")


def test_a_replayed_attestation() -> None:
    gateway = SmallService()
    recorded: list[Attestation] = []

    def replay(attestation: Attestation) -> Attestation:
        recorded.append(attestation)
        return recorded[0]

    gateway.lies["/confide/v1/attest"] = replay
    handshake(gateway).run(lambda _: None)
    assert failed_check(gateway) == "quote binding"


@pytest.mark.parametrize("field", ["root_ca", "mesh_ca", "history"])
def test_swapped_authorities(field: str) -> None:
    gateway = SmallService()
    other = SmallService().coordinator.attest(bytes(32))
    gateway.lies["/confide/v1/attest"] = lambda a: replace(a, **{field: getattr(other, field)})
    assert failed_check(gateway) == "quote binding"


def test_a_worker_that_poses_as_the_secret_service() -> None:
    gateway = SmallService()
    worker = gateway.workers[0].membership()
    gateway.lies["/confide/v1/key-exchange"] = lambda _: KeyExchangeReply(
        (KeyOffer(worker.certificate, worker.kem_public_key),)
    )
    assert failed_check(gateway) == "secret services"


def test_one_secret_service_of_three_that_is_not_genuine() -> None:
    gateway, other = SmallService(services=2), SmallService()
    stranger = other.offers()[0]
    gateway.lies["/confide/v1/key-exchange"] = lambda reply: replace(
        reply, services=(stranger, *reply.services)
    )
    shown: list[ServiceVerdict] = []
    handshake(gateway).run(shown.append)
    (check,) = shown[0].secret_services.checks
    assert check.seen.startswith("2 of the 3 that the gateway showed; the first that did not pass")


def test_fewer_workers_than_the_person_asked_for() -> None:
    gateway = SmallService(workers=2)
    handshake(gateway, min_workers=2).run(lambda _: None)
    assert failed_check(gateway, min_workers=3) == "workers"
    stranger = SmallService().listed()[0]
    gateway.lies["/confide/v1/workers"] = lambda shown: replace(
        shown, workers=(*shown.workers, stranger, shown.workers[0])
    )
    assert failed_check(gateway, min_workers=3) == "workers"


def test_expired_certificates() -> None:
    service = SmallService()
    service.clock.now += 3700
    assert failed_check(service, now=NOW + 3700) == "secret services"


@pytest.mark.parametrize("seconds", [-301, 301, 21 * 86400])
def test_a_coordinator_whose_clock_is_not_the_client_s(seconds: int) -> None:
    """What it certifies now could be shown again when its time has come."""
    service = SmallService()
    service.clock.now += seconds
    assert failed_check(service) == "coordinator's clock"


@pytest.mark.parametrize("path", ["attest", "key-exchange", "workers"])
@pytest.mark.parametrize("answer", [b"", b"\xa0", b"{}", b"\xff" * 100])
def test_malformed_answers(path: str, answer: bytes) -> None:
    gateway = SmallService()
    gateway.lies[f"/confide/v1/{path}"] = lambda _: answer
    with pytest.raises(FormatError):
        handshake(gateway).run(lambda _: None)


def test_a_gateway_that_refuses() -> None:
    gateway = SmallService()
    gateway.status = 401
    with pytest.raises(UnavailableError, match="no such key"):
        handshake(gateway).run(lambda _: None)


def test_the_api_key_goes_with_every_call() -> None:
    gateway = SmallService()
    gateway.gateway = Gateway(
        gateway,  # type: ignore[arg-type]
        api_key="k",
        manifest_sha256=gateway.manifest.sha256,
    )
    handshake(gateway).run(lambda _: None)
    assert [headers["Authorization"] for headers in gateway.headers] == ["Bearer k"] * 3
    manifests = {headers["Confide-Manifest"] for headers in gateway.headers}
    assert manifests == {gateway.manifest.sha256.hex()}


def test_a_pinned_manifest_that_is_none() -> None:
    with pytest.raises(ConfideError):
        handshake(SmallService(), manifest=b"{}")


def until(seconds: int) -> bytes:
    """The manifest with this many seconds left."""
    return manifest_bytes(released=NOW - 10, expires=NOW + seconds)


def test_an_expired_manifest_is_refused_before_anything_is_sent() -> None:
    gateway = SmallService()
    shown: list[ServiceVerdict] = []
    with pytest.raises(PolicyError) as caught:
        handshake(gateway, manifest=until(5), now=NOW + 5).run(shown.append)
    assert caught.value.code == "manifest-expired"
    assert gateway.headers == []


def test_a_clock_that_goes_wrong_is_noticed() -> None:
    with pytest.raises(PolicyError) as caught:
        handshake(SmallService(), now=NOW - 7 * 86400).run(lambda _: None)
    assert caught.value.code == "manifest-not-valid-yet"


def test_nothing_outlives_the_manifest() -> None:
    gateway = SmallService(manifest=until(100))
    assert handshake(gateway, manifest=until(100)).run(lambda _: None).seconds == 100


def test_an_opt_out_needs_its_word() -> None:
    manifest = json_encode(production.manifest_value(platforms=ANY_CHIP))
    with pytest.raises(PolicyError) as caught:
        handshake(SmallService(), manifest=manifest)
    assert caught.value.code == "opt-out-not-given"
    handshake(SmallService(), manifest=manifest, opt_outs=["insecure_any_chip"])


def test_all_answers_together_have_one_minute() -> None:
    """Each of three answers may be slow, not each for a minute. Vendors have their own limits."""
    service = SmallService()

    def slow(answer: Any) -> Any:
        time.sleep(0.2)
        return answer

    service.lies = dict.fromkeys(("/confide/v1/attest", "/confide/v1/key-exchange"), slow)
    find = offline()

    def find_slowly(evidence: bytes, manifest: Manifest) -> Bundle:
        time.sleep(1)
        return find(evidence, manifest)

    Handshake(
        service.gateway, manifest=MANIFEST, find_collateral=find_slowly, clock=Clock(NOW)
    ).run(lambda _: None)
    first, second, third = service.seconds
    assert SETUP_SECONDS - 1 < first <= SETUP_SECONDS
    assert first - 1 < second < first - 0.1
    assert third < second - 0.1


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"x"])
def test_a_gateway_that_says_nothing_is_an_error_in_time(
    says: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts, and then nothing comes; or never more than a byte, at which each read is glad."""
    monkeypatch.setattr(gateway_module, "SETUP_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        over = threading.Event()

        def accept() -> None:
            with listener.accept()[0] as connection, suppress(OSError):
                connection.sendall(says)
                while not over.wait(0.1):
                    connection.sendall(says[:1])

        server = threading.Thread(target=accept)
        server.start()
        gateway = Gateway(Caller(url), api_key="", manifest_sha256=bytes(32))
        silent = Handshake(gateway, manifest=MANIFEST, find_collateral=offline(), clock=Clock(NOW))
        start = time.monotonic()
        with pytest.raises(UnavailableError) as caught:
            silent.run(lambda _: None)
        over.set()
        server.join()
    assert caught.value.code == "peer-timeout"
    assert time.monotonic() - start < 5
