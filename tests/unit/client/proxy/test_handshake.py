"""What the proxy believes before it sends a prompt.

Real coordinator and secret service, SIMULATED machines, a gateway that answers what a test wants.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest

from confide.client.collateral.finder import offline
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
from confide.guest.coordinator.domain import Coordinator
from confide.guest.mesh.join import Membership, Node
from confide.guest.secret_service.domain import SecretService
from confide.protocol.coordinator import Attestation, Nonce
from confide.protocol.secret_service import KeyAccepted, KeyExchangeReply
from tests.support import production
from tests.support.local_coordinator import LocalCoordinator
from tests.support.simulated_machine import NOW, Clock, SimulatedMachine, manifest_bytes
from tests.support.snp_policy import policy_json

MANIFEST = manifest_bytes()
ANY_CHIP = production.manifest_value()["platforms"] | {
    "sev-snp": policy_json(chip_ids=[], opt_outs=["insecure_any_chip"])
}


def join(coordinator: Coordinator, role: str, **options: Any) -> Membership:
    machine = SimulatedMachine(role, manifest=coordinator.mesh().manifest)
    client = LocalCoordinator(coordinator)
    return Node(role, machine, client, binding=machine.binding, now=Clock(), **options).join()


class Gateway:
    """Stands for `Upstream`: asks coordinator and secret service, then lets a test lie."""

    def __init__(self, *, manifest: bytes = MANIFEST) -> None:
        self.start_coordinator(SimulatedMachine("coordinator", manifest=manifest), manifest)
        self.secrets = SecretService(now=Clock())
        self.member = join(
            self.coordinator, "secret-service", kem_public_key=self.secrets.kem_public_key
        )
        self.lies: dict[str, Callable[[Any], Any]] = {}
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.url = "http://gateway"

    def start_coordinator(self, machine: SimulatedMachine, manifest: bytes = MANIFEST) -> None:
        self.clock = Clock()
        self.coordinator = Coordinator(machine, binding=machine.binding, now=self.clock)
        self.coordinator.set_manifest(manifest)

    def call(
        self, method: str, path: str, *, body: bytes | None, headers: dict[str, str], limit: int
    ) -> tuple[int, str, bytes]:
        self.headers.append(headers)
        if self.status != 200:
            error = {"code": "unauthorized", "message": "no such key"}
            return self.status, "application/json", json.dumps({"error": error}).encode()
        honest = {
            ("POST", "/confide/v1/attest"): self._attest,
            ("GET", "/confide/v1/key-exchange"): self._key_exchange,
            ("POST", "/confide/v1/keys"): self._keys,
        }[method, path]
        answer = self.lies.get(path, lambda answer: answer)(honest(body or b""))
        encoded = answer if isinstance(answer, bytes) else answer.encode()
        assert len(encoded) <= limit
        return 200, "application/cbor", encoded

    def _attest(self, body: bytes) -> Attestation:
        return self.coordinator.attest(Nonce.parse(body).nonce)

    def _key_exchange(self, _: bytes) -> KeyExchangeReply:
        member = self.member
        return KeyExchangeReply(
            member.certificate, member.mesh_ca, member.root_ca, self.secrets.kem_public_key
        )

    def _keys(self, body: bytes) -> KeyAccepted:
        return self.secrets.put(body, self.member.manifest)


def handshake(
    gateway: Gateway,
    *,
    manifest: bytes = MANIFEST,
    now: int = NOW,
    opt_outs: Collection[str] = (),
) -> Handshake:
    return Handshake(
        gateway,  # type: ignore[arg-type]
        manifest=manifest,
        api_key="",
        find_collateral=offline(),
        clock=Clock(now),
        opt_outs=opt_outs,
    )


def failed_check(gateway: Gateway, **options: Any) -> str:
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
    gateway = Gateway()
    shown: list[ServiceVerdict] = []
    established = handshake(gateway).run(shown.append)
    assert shown[0].passed
    assert established.manifest.sha256 == gateway.member.manifest.sha256
    assert established.key_seconds == 3600
    assert len(established.key) == 32


def test_each_handshake_has_its_own_nonce_and_key() -> None:
    gateway = Gateway()
    one, two = (handshake(gateway).run(lambda _: None) for _ in range(2))
    assert one.key != two.key and one.key_id != two.key_id


def test_another_manifest_than_the_pinned_one() -> None:
    pinned = MANIFEST.replace(b'"cdcd', b'"cdce')
    assert failed_check(Gateway(), manifest=pinned) == "manifest"


def test_the_pinned_manifest_served_by_a_machine_that_was_not_attested_with_it() -> None:
    """A gateway swaps the manifest in the answer: what the evidence binds is another one."""
    pinned = MANIFEST.replace(b'"cdcd', b'"cdce')
    gateway = Gateway()
    gateway.lies["/confide/v1/attest"] = lambda a: replace(a, manifest=pinned)
    assert failed_check(gateway, manifest=pinned) == "quote binding"


def test_another_image() -> None:
    machine = SimulatedMachine("coordinator", events={4: bytes(range(32))})
    gateway = Gateway()
    gateway.start_coordinator(machine)
    assert failed_check(gateway).startswith("PCR 4")


def test_another_role_s_image() -> None:
    machine = SimulatedMachine("secret-service")
    gateway = Gateway()
    gateway.start_coordinator(machine)
    assert failed_check(gateway).startswith("PCR 0")


def test_a_replayed_attestation() -> None:
    gateway = Gateway()
    recorded: list[Attestation] = []

    def replay(attestation: Attestation) -> Attestation:
        recorded.append(attestation)
        return recorded[0]

    gateway.lies["/confide/v1/attest"] = replay
    handshake(gateway).run(lambda _: None)
    assert failed_check(gateway) == "quote binding"


@pytest.mark.parametrize("field", ["root_ca", "mesh_ca", "history"])
def test_swapped_authorities(field: str) -> None:
    gateway = Gateway()
    other = Gateway().coordinator.attest(bytes(32))
    gateway.lies["/confide/v1/attest"] = lambda a: replace(a, **{field: getattr(other, field)})
    assert failed_check(gateway) == "quote binding"


def test_a_worker_that_poses_as_the_secret_service() -> None:
    gateway = Gateway()
    worker = join(gateway.coordinator, "worker-cpu", models=("tiny",))
    gateway.lies["/confide/v1/key-exchange"] = lambda r: replace(r, certificate=worker.certificate)
    assert failed_check(gateway) == "secret service"


def test_a_secret_service_of_another_mesh() -> None:
    gateway, other = Gateway(), Gateway()
    stranger = other.member.certificate
    gateway.lies["/confide/v1/key-exchange"] = lambda r: replace(r, certificate=stranger)
    assert failed_check(gateway) == "secret service"


def test_another_key_than_the_certified_one() -> None:
    gateway = Gateway()
    stranger = SecretService().kem_public_key
    gateway.lies["/confide/v1/key-exchange"] = lambda r: replace(r, kem_public_key=stranger)
    assert failed_check(gateway) == "key exchange key"


def test_an_expired_certificate() -> None:
    gateway = Gateway()
    gateway.clock.now += 3700
    assert failed_check(gateway, now=NOW + 3700) == "secret service"


@pytest.mark.parametrize("seconds", [-301, 301, 21 * 86400])
def test_a_coordinator_whose_clock_is_not_the_client_s(seconds: int) -> None:
    """What it certifies now could be shown again when its time has come."""
    gateway = Gateway()
    gateway.clock.now += seconds
    assert failed_check(gateway) == "coordinator's clock"


def test_another_key_id() -> None:
    gateway = Gateway()
    gateway.lies["/confide/v1/keys"] = lambda accepted: replace(accepted, key_id=bytes(32))
    with pytest.raises(VerificationError, match="another key"):
        handshake(gateway).run(lambda _: None)


@pytest.mark.parametrize("path", ["attest", "key-exchange", "keys"])
@pytest.mark.parametrize("answer", [b"", b"\xa0", b"{}", b"\xff" * 100])
def test_malformed_answers(path: str, answer: bytes) -> None:
    gateway = Gateway()
    gateway.lies[f"/confide/v1/{path}"] = lambda _: answer
    with pytest.raises(FormatError):
        handshake(gateway).run(lambda _: None)


def test_a_gateway_that_refuses() -> None:
    gateway = Gateway()
    gateway.status = 401
    with pytest.raises(UnavailableError, match="no such key"):
        handshake(gateway).run(lambda _: None)


def test_the_api_key_goes_with_every_call() -> None:
    gateway = Gateway()
    Handshake(
        gateway,  # type: ignore[arg-type]
        manifest=MANIFEST,
        api_key="k",
        find_collateral=offline(),
        clock=Clock(),
    ).run(lambda _: None)
    assert [headers["Authorization"] for headers in gateway.headers] == ["Bearer k"] * 3


def test_a_pinned_manifest_that_is_none() -> None:
    with pytest.raises(ConfideError):
        handshake(Gateway(), manifest=b"{}")


def until(seconds: int) -> bytes:
    """The manifest with this many seconds left."""
    return manifest_bytes(released=NOW - 10, expires=NOW + seconds)


def test_an_expired_manifest_is_refused_before_anything_is_sent() -> None:
    gateway = Gateway()
    shown: list[ServiceVerdict] = []
    with pytest.raises(PolicyError) as caught:
        handshake(gateway, manifest=until(5), now=NOW + 5).run(shown.append)
    assert caught.value.code == "manifest-expired"
    assert gateway.headers == []


def test_a_clock_that_goes_wrong_is_noticed() -> None:
    with pytest.raises(PolicyError) as caught:
        handshake(Gateway(), now=NOW - 7 * 86400).run(lambda _: None)
    assert caught.value.code == "manifest-not-valid-yet"


def test_no_key_outlives_the_manifest() -> None:
    gateway = Gateway(manifest=until(100))
    assert handshake(gateway, manifest=until(100)).run(lambda _: None).key_seconds == 100


def test_an_opt_out_needs_its_word() -> None:
    manifest = json_encode(production.manifest_value(platforms=ANY_CHIP))
    with pytest.raises(PolicyError) as caught:
        handshake(Gateway(), manifest=manifest)
    assert caught.value.code == "opt-out-not-given"
    handshake(Gateway(), manifest=manifest, opt_outs=["insecure_any_chip"])
