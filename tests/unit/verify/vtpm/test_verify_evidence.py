"""The dispatcher: which platform may attest which role."""

from __future__ import annotations

import dataclasses

import pytest

from confide.errors import FormatError, VerificationError
from confide.host.development_ca import development_ca_spki_sha256
from confide.protocol.collateral import Bundle
from confide.protocol.evidence import Evidence
from confide.protocol.manifest import Manifest, Platforms, RoleEntry
from confide.protocol.policy.vtpm import DevelopmentCa
from confide.protocol.roles import Role
from confide.verify.evidence import verify_evidence
from confide.verify.parsed import ParsedEvidence
from confide.verify.verdict import Verdict
from tests.support.fake_tpm import FakeTpm

NOW = 1_800_000_000
REPORT_DATA = b"\x5a" * 32 + bytes(32)


@pytest.fixture
def manifest(tpm: FakeTpm) -> Manifest:
    roles = {Role.COORDINATOR: RoleEntry((tpm.reference(),))}
    platforms = Platforms(vtpm=DevelopmentCa(development_ca_spki_sha256()))
    made = Manifest("development", platforms, roles, (), 0, 1)
    tpm.launch_for(made.encode())
    return made


def call(evidence: Evidence, manifest: Manifest, role: str = "coordinator") -> Verdict:
    return verify_evidence(
        ParsedEvidence(evidence),
        report_data=REPORT_DATA,
        manifest=manifest,
        role=role,
        collateral=Bundle(),
        now=NOW,
    )


def test_good_evidence(tpm: FakeTpm, manifest: Manifest) -> None:
    verdict = call(tpm.evidence(), manifest)
    verdict.require()
    assert verdict.checks[0].name == "platform"


def test_role_that_the_manifest_does_not_have(tpm: FakeTpm, manifest: Manifest) -> None:
    verdict = call(tpm.evidence(), manifest, "worker-cpu")
    assert verdict.first_failed is not None
    assert verdict.first_failed.name == "role"


def test_role_with_other_measurements(tpm: FakeTpm, manifest: Manifest) -> None:
    other = type(tpm)(measured={**tpm.measured, 11: b"\1" * 32})
    roles = {**manifest.roles, Role.SECRET_SERVICE: RoleEntry((other.reference(),))}
    both = dataclasses.replace(manifest, roles=roles)
    other.launch_for(both.encode())
    call(other.evidence(), both, "secret-service").require()
    with pytest.raises(VerificationError, match="PCR 11"):
        call(other.evidence(), both, "coordinator").require()


@pytest.mark.parametrize("platform", ["sev-snp", "tdx"])
def test_platform_without_a_verifier(tpm: FakeTpm, manifest: Manifest, platform: str) -> None:
    verdict = call(dataclasses.replace(tpm.evidence(), platform=platform), manifest)
    assert verdict.first_failed is not None
    assert verdict.first_failed.name == "platform"


def test_gpus_that_nobody_checks(tpm: FakeTpm, manifest: Manifest) -> None:
    verdict = call(dataclasses.replace(tpm.evidence(), gpus=(b"gpu",)), manifest)
    assert verdict.first_failed is not None
    assert verdict.first_failed.name == "GPUs"


def test_a_manifest_without_an_authority_accepts_no_vtpm(manifest: Manifest) -> None:
    with pytest.raises(FormatError) as caught:
        dataclasses.replace(manifest, mode="production", platforms=Platforms())
    assert caught.value.code == "manifest-platform"
