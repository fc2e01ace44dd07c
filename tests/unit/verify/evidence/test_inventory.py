"""Evidence of a machine in inventory: genuine, and good for nothing but the list of a site."""

from __future__ import annotations

import pytest

from confide.protocol.binding import inventory_report_data, join_report_data
from confide.protocol.coordinator import Attestation
from confide.protocol.evidence import Evidence
from confide.protocol.history import encode_history
from confide.protocol.launch import UNBOUND
from confide.protocol.roles import Role
from confide.verify.evidence import verify_evidence
from confide.verify.parsed import ParsedEvidence
from confide.verify.service import verify_unset_coordinator
from tests.support import intel_certificates, simulated_amd
from tests.support.production import Production, manifest
from tests.support.registering import td, unbound
from tests.support.verdicts import failed

NONCE = bytes(range(32))
DATA = inventory_report_data(NONCE)


@pytest.fixture(params=["sev-snp", "tdx"])
def evidence(request: pytest.FixtureRequest, production: Production) -> Evidence:
    """What a machine in inventory answers to NONCE."""
    machines = unbound(production)
    return machines.snp(DATA) if request.param == "sev-snp" else td(machines)


def now(evidence: Evidence) -> int:
    return intel_certificates.NOW if evidence.platform == "tdx" else simulated_amd.NOW


def judge(
    production: Production, evidence: Evidence, report_data: bytes, binding: bytes | None = None
) -> list[str]:
    verdict = verify_evidence(
        ParsedEvidence(evidence),
        report_data=report_data,
        manifest=manifest(),
        role=Role.COORDINATOR,
        collateral=production.bundle(),
        now=now(evidence),
        binding=binding,
    )
    return failed(verdict)


def test_it_is_genuine(production: Production, evidence: Evidence) -> None:
    assert judge(production, evidence, DATA, binding=UNBOUND) == []


def test_every_judge_with_a_manifest_refuses_it_twice(
    production: Production, evidence: Evidence
) -> None:
    """Even if somebody had the machine sign a join: it was launched for no manifest."""
    join = join_report_data(
        NONCE,
        role="coordinator",
        public_key=b"key",
        kem_public_key=b"",
        manifest=manifest().encode(),
        models=(),
        mesh_ca=b"ca",
        gpus=b"",
    )
    assert sorted(judge(production, evidence, join)) == ["launch binding", "report data"]
    assert judge(production, evidence, DATA) == ["launch binding"]


def test_no_client_takes_it_for_a_new_coordinators(
    production: Production, evidence: Evidence
) -> None:
    """The host adds what a coordinator without a manifest sends, to evidence that it got."""
    history, at = encode_history([]), now(evidence)
    attestation = Attestation(evidence.encode(), b"", history, b"root CA", b"", at, 0, ())
    verdict = verify_unset_coordinator(
        attestation,
        manifest=manifest(),
        nonce=NONCE,
        collateral=production.bundle(),
        now=at,
    )
    assert {"launch binding", "report data"} <= set(failed(verdict))


def test_a_machine_of_a_service_is_in_no_inventory(production: Production) -> None:
    """It would have to sign the label of inventories, and its binding fails then as well."""
    assert judge(production, production.snp(DATA), DATA, binding=UNBOUND) == ["launch binding"]
