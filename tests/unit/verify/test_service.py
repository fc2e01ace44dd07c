"""The client's verification: each check fails for the reason that it names, and only then."""

from __future__ import annotations

import secrets
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from confide.errors import FormatError, VerificationError
from confide.guest.coordinator.domain import Coordinator
from confide.protocol.collateral import Bundle
from confide.protocol.coordinator import Attestation
from confide.protocol.evidence import Evidence
from confide.protocol.history import encode_history, parse_history
from confide.protocol.manifest import Manifest
from confide.protocol.validity import DAY
from confide.verify.service import (
    check_validity,
    verify_coordinator,
    verify_unset_coordinator,
)
from confide.verify.verdict import Verdict
from tests.support.simulated_machine import (
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
