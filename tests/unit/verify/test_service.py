"""The client's verification: each check fails for the reason that it names, and only then."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confide.errors import FormatError, VerificationError
from confide.guest.coordinator.ca import create_mesh_ca, create_root_ca, issue_leaf
from confide.guest.coordinator.domain import Coordinator
from confide.guest.mesh.join import Membership, Node
from confide.protocol.collateral import Bundle
from confide.protocol.coordinator import Attestation
from confide.protocol.evidence import Evidence
from confide.protocol.history import encode_history, parse_history
from confide.protocol.keyexchange import KemPrivateKey
from confide.protocol.manifest import Manifest
from confide.protocol.secret_service import KeyExchangeReply
from confide.protocol.validity import DAY
from confide.verify.service import (
    check_validity,
    verify_coordinator,
    verify_key_exchange,
    verify_unset_coordinator,
)
from confide.verify.verdict import Verdict
from tests.support.local_coordinator import LocalCoordinator
from tests.support.simulated_machine import (
    MODEL,
    NOW,
    Clock,
    SimulatedMachine,
    manifest_bytes,
    manifest_value,
)

MANIFEST = manifest_bytes()
OTHER_MANIFEST = manifest_bytes(
    models=[manifest_value()["models"][0], manifest_value()["models"][0] | {"name": "other"}]
)
NONCE = secrets.token_bytes(32)


def new_coordinator(
    manifest: bytes | None = MANIFEST, machine: SimulatedMachine | None = None
) -> Coordinator:
    machine = machine or SimulatedMachine("coordinator", manifest=manifest)
    # Its program believes what it is told. What the machine's evidence shows is another thing.
    binding = sha256(manifest or MANIFEST).digest()
    coordinator = Coordinator(machine, binding=binding, now=Clock())
    if manifest is not None:
        coordinator.set_manifest(manifest)
    return coordinator


@pytest.fixture(scope="module")
def coordinator() -> Coordinator:
    return new_coordinator()


@pytest.fixture(scope="module")
def other() -> Coordinator:
    """Another coordinator, as honest as the first: with CAs and evidence of its own."""
    return new_coordinator()


@pytest.fixture(scope="module")
def attestation(coordinator: Coordinator) -> Attestation:
    return coordinator.attest(NONCE)


def verify(attestation: Attestation, **changes: Any) -> Verdict:
    options: dict[str, Any] = {
        "manifest_pinned": MANIFEST,
        "nonce": NONCE,
        "collateral": Bundle(),
        "now": NOW,
    } | changes
    return verify_coordinator(attestation, **options)


def failed(verdict: Verdict) -> set[str]:
    assert not verdict.passed
    with pytest.raises(VerificationError):
        verdict.require()
    return {check.name for check in verdict.checks if not check.passed}


def test_good_coordinator(attestation: Attestation) -> None:
    verdict = verify(attestation)
    verdict.require()
    names = [check.name for check in verdict.checks]
    assert names[0] == "manifest"
    assert names[-3:] == ["root CA", "mesh CA", "history"]
    assert {"quote signature", "quote binding"} < set(names)
    assert sum(name.startswith("PCR ") for name in names) == 12


def test_another_manifest_is_served() -> None:
    assert failed(verify(new_coordinator(OTHER_MANIFEST).attest(NONCE))) == {
        "manifest",
        "launch binding",
        "quote binding",
        "mesh CA",
        "history",
    }


def test_pinned_manifest_is_served_but_another_one_is_in_force() -> None:
    """The gateway swaps the bytes in transit: nothing that matters can be swapped with them."""
    served = replace(new_coordinator(OTHER_MANIFEST).attest(NONCE), manifest=MANIFEST)
    assert failed(verify(served)) == {"launch binding", "quote binding", "mesh CA", "history"}


def test_a_machine_that_was_launched_for_another_manifest() -> None:
    """All that it says is right. It was started for another mesh, and nobody can change that."""
    machine = SimulatedMachine("coordinator", manifest=OTHER_MANIFEST)
    assert failed(verify(new_coordinator(machine=machine).attest(NONCE))) == {"launch binding"}
    assert failed(unset(new_coordinator(None, machine).attest(NONCE))) == {"launch binding"}


def test_manifest_that_is_the_same_value_in_other_bytes(attestation: Attestation) -> None:
    served = replace(attestation, manifest=MANIFEST + b"\n")
    assert failed(verify(served)) == {"manifest"}


def test_no_manifest_is_set() -> None:
    verdict = verify(new_coordinator(None).attest(NONCE))
    assert {"manifest", "mesh CA", "history"} <= failed(verdict)


def test_pinned_manifest_that_is_none(attestation: Attestation) -> None:
    with pytest.raises(FormatError):
        verify(attestation, manifest_pinned=b"{}\n")


def test_another_nonce(attestation: Attestation) -> None:
    assert failed(verify(attestation, nonce=bytes(32))) == {"quote binding"}


def test_certificates_at_another_time(attestation: Attestation) -> None:
    assert {"root CA", "mesh CA"} <= failed(verify(attestation, now=NOW - 86400))


@pytest.mark.parametrize(
    ("part", "checks"),
    [
        ("root_ca", {"quote binding", "mesh CA", "history"}),
        ("mesh_ca", {"quote binding", "mesh CA", "history"}),
        ("history", {"quote binding", "history"}),
        ("evidence", {"quote binding"}),
    ],
)
def test_part_of_another_coordinator(
    attestation: Attestation, other: Coordinator, part: str, checks: set[str]
) -> None:
    mixed = replace(attestation, **{part: getattr(other.attest(NONCE), part)})
    assert failed(verify(mixed)) == checks


def test_all_cas_of_an_unattested_coordinator(attestation: Attestation, other: Coordinator) -> None:
    mixed = replace(other.attest(NONCE), evidence=attestation.evidence)
    assert failed(verify(mixed)) == {"quote binding"}


@pytest.mark.parametrize("pcr", [0, 4, 7, 9, 11, 12])
def test_altered_image(pcr: int) -> None:
    altered = SimulatedMachine("coordinator", events={pcr: bytes(32)})
    names = failed(verify(new_coordinator(machine=altered).attest(NONCE)))
    assert len(names) == 1
    assert names.pop().startswith(f"PCR {pcr} ")


def test_machine_of_another_role() -> None:
    worker = SimulatedMachine("worker-cpu")
    names = failed(verify(new_coordinator(machine=worker).attest(NONCE)))
    assert all(name.startswith("PCR ") for name in names)


def test_history_with_a_forged_signature(
    attestation: Attestation, coordinator: Coordinator
) -> None:
    """Even if evidence could bind it: a history counts only if the root CA signed it."""
    (entry,) = parse_history(attestation.history)
    forged = encode_history([replace(entry, signature=entry.signature[:-1] + b"\0")])
    assert failed(verify(replace(attestation, history=forged))) == {"quote binding", "history"}


@pytest.mark.parametrize("evidence", [b"", b"\xa0", b"\xff" * 64])
def test_garbage_evidence(attestation: Attestation, evidence: bytes) -> None:
    assert failed(verify(replace(attestation, evidence=evidence))) == {"evidence"}


def test_evidence_of_another_platform(attestation: Attestation) -> None:
    evidence = replace(Evidence.parse(attestation.evidence), platform="sev-snp")
    names = failed(verify(replace(attestation, evidence=evidence.encode())))
    assert names == {"platform"}


@pytest.mark.parametrize("part", ["root_ca", "mesh_ca", "history"])
def test_garbage_part(attestation: Attestation, part: str) -> None:
    garbage: dict[str, Any] = {part: b"\xff garbage"}
    names = failed(verify(replace(attestation, **garbage)))
    assert "quote binding" in names
    assert len(names) > 1


def test_every_flipped_byte_of_the_signed_evidence_is_noticed(attestation: Attestation) -> None:
    """Report and certificates; the event log only explains, so not every byte of it counts."""
    evidence = Evidence.parse(attestation.evidence)

    def passes(changed: Evidence) -> bool:
        return verify(replace(attestation, evidence=changed.encode())).passed

    assert passes(evidence)
    for at in range(0, len(evidence.report), 13):
        assert not passes(replace(evidence, report=flip(evidence.report, at))), at
    key, issuer = evidence.endorsements
    for at in range(0, len(key), 29):
        assert not passes(replace(evidence, endorsements=(flip(key, at), issuer))), at
    for at in range(0, len(issuer), 29):
        assert not passes(replace(evidence, endorsements=(key, flip(issuer, at)))), at


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# --- before the manifest is set -----------------------------------------------------------------


def unset(attestation: Attestation, nonce: bytes = NONCE) -> Verdict:
    return verify_unset_coordinator(
        attestation, manifest=Manifest.parse(MANIFEST), nonce=nonce, collateral=Bundle(), now=NOW
    )


def test_new_coordinator() -> None:
    attestation = new_coordinator(None).attest(NONCE)
    unset(attestation).require()
    assert failed(unset(attestation, bytes(32))) == {"quote binding"}
    assert failed(unset(replace(attestation, history=b"\x81\xa0"))) == {"quote binding", "history"}


def test_coordinator_that_has_a_manifest_is_not_new(attestation: Attestation) -> None:
    assert {"manifest", "history", "quote binding"} <= failed(unset(attestation))


def test_altered_new_coordinator() -> None:
    altered = SimulatedMachine("coordinator", events={11: bytes(32)})
    names = failed(unset(new_coordinator(None, altered).attest(NONCE)))
    assert len(names) == 1
    assert names.pop().startswith("PCR 11 ")


# --- the secret service -------------------------------------------------------------------------


@dataclass(frozen=True)
class Exchange:
    member: Membership
    reply: KeyExchangeReply

    def verify(self, reply: KeyExchangeReply, now: int = NOW) -> Verdict:
        return verify_key_exchange(
            reply, mesh_ca=self.member.mesh_ca, root_ca=self.member.root_ca, now=now
        )


def join(coordinator: Coordinator, role: str, **options: Any) -> Membership:
    client, binding = LocalCoordinator(coordinator), sha256(coordinator.mesh().manifest).digest()
    machine = SimulatedMachine(role)
    return Node(role, machine, client, binding=binding, now=Clock(), **options).join()


@pytest.fixture(scope="module")
def exchange(coordinator: Coordinator) -> Exchange:
    kem = KemPrivateKey.generate().public_bytes
    member = join(coordinator, "secret-service", kem_public_key=kem)
    reply = KeyExchangeReply(member.certificate, member.mesh_ca, member.root_ca, kem)
    return Exchange(member, reply)


def test_good_secret_service(exchange: Exchange) -> None:
    exchange.verify(exchange.reply).require()


def test_kem_key_of_somebody_else(exchange: Exchange) -> None:
    kem = KemPrivateKey.generate().public_bytes
    assert failed(exchange.verify(replace(exchange.reply, kem_public_key=kem))) == {
        "key exchange key"
    }


def test_worker_posing_as_secret_service(exchange: Exchange, coordinator: Coordinator) -> None:
    worker = join(coordinator, "worker-cpu", models=(MODEL,))
    reply = replace(exchange.reply, certificate=worker.certificate)
    assert failed(exchange.verify(reply)) == {"secret service"}


def test_secret_service_certificate_without_kem_key(exchange: Exchange) -> None:
    """The profile allows such a leaf; nothing may be sealed on its word."""
    now, member = NOW, exchange.member
    root = create_root_ca(now=now)
    mesh = create_mesh_ca(root, manifest_sha256=member.manifest.sha256, now=now)
    spki = member.private_key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    leaf = issue_leaf(
        mesh, role="secret-service", models=(), public_key=spki, kem_public_key=b"", now=now
    )
    reply = KeyExchangeReply(leaf, mesh.der, root.der, exchange.reply.kem_public_key)
    verdict = verify_key_exchange(reply, mesh_ca=mesh.der, root_ca=root.der, now=now)
    assert failed(verdict) == {"key exchange key"}


def test_secret_service_of_another_mesh(exchange: Exchange, other: Coordinator) -> None:
    kem = exchange.reply.kem_public_key
    stranger = join(other, "secret-service", kem_public_key=kem)
    reply = KeyExchangeReply(stranger.certificate, stranger.mesh_ca, stranger.root_ca, kem)
    assert failed(exchange.verify(reply)) == {"secret service's mesh", "secret service"}
    # Nor does it help to claim the attested CAs.
    reply = replace(exchange.reply, certificate=stranger.certificate)
    assert failed(exchange.verify(reply)) == {"secret service"}


@pytest.mark.parametrize("now", [NOW + 3601, NOW - 301])
def test_secret_service_at_another_time(exchange: Exchange, now: int) -> None:
    assert failed(exchange.verify(exchange.reply, now)) == {"secret service"}


Change = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    "change", [lambda der: der[:-1], lambda der: der + b"\0", lambda der: b""], ids=str
)
def test_garbage_certificate(exchange: Exchange, change: Change) -> None:
    reply = replace(exchange.reply, certificate=change(exchange.reply.certificate))
    assert failed(exchange.verify(reply)) == {"secret service"}


@pytest.mark.parametrize(
    ("now", "code"),
    [(NOW + 400 * DAY, "manifest-expired"), (NOW - 400 * DAY, "manifest-not-valid-yet")],
)
def test_the_verdict_has_a_row_for_the_time_of_the_manifest(now: int, code: str) -> None:
    passed = check_validity(Manifest.parse(MANIFEST), NOW)
    assert (passed.name, passed.passed) == ("manifest validity", True)
    failed = check_validity(Manifest.parse(MANIFEST), now)
    assert not failed.passed and failed.seen.startswith(code)


def test_both_verdicts_look_at_the_time_of_the_manifest(coordinator: Coordinator) -> None:
    later = NOW + 400 * DAY
    attestation = coordinator.attest(NONCE)
    names = [
        [check.name for check in verdict.checks if not check.passed]
        for verdict in (
            verify_coordinator(
                attestation, manifest_pinned=MANIFEST, nonce=NONCE, collateral=Bundle(), now=later
            ),
            verify_unset_coordinator(
                attestation,
                manifest=Manifest.parse(MANIFEST),
                nonce=NONCE,
                collateral=Bundle(),
                now=later,
            ),
        )
    ]
    assert all("manifest validity" in failed for failed in names)
