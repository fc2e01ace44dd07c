"""Machines that are not ours, as `confide site add` sees them: quotes that real platforms signed.

No published quote answers one of our nonces, and none comes with its log as firmware wrote it. So
these two checks fail, and they have to be the only ones.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from confide.errors import PolicyError
from confide.host.inventory import Inventory, accepting, named_machine, verify_inventory
from confide.host.manifest_builder import Policy
from confide.host.references import References
from confide.host.site import Machines
from confide.protocol.collateral import Bundle, Item
from confide.protocol.evidence import Evidence
from confide.protocol.manifest import Platforms, RoleReferences
from confide.protocol.policy.snp import SnpReference
from confide.protocol.roles import Role
from confide.vendors.amd.report import Report
from confide.vendors.intel import pcs
from confide.verify.machine import PckChain, TdxEvidence
from confide.verify.parsed import ParsedEvidence
from confide.verify.verdict import Verdict
from tests.support.production import pcs_answer
from tests.support.snp_vectors import AT, VECTORS, evidence_of
from tests.support.snp_vectors import policy_of as snp_policy_of
from tests.support.tdx_vectors import (
    ACCEPTED,
    Pair,
    policy_of,
    read_collateral,
    read_quote,
    reference_of,
)
from tests.support.verdicts import failed

INSTANCES = {
    "dcap-qvl/tdx_quote": "07828474603e7019dc930775ffe8cdd2",
    "dstack/quote-report.json": "af3b9e752ee6e3f88eb745536ae57b0d",
    "go-tdx-guest/quote_v5_sample.dat": "056d0350250988808a9d09103f3e54d5",
}
LEASED = "milan, leased key"
each_pair = pytest.mark.parametrize("pair", ACCEPTED, ids=lambda pair: str(pair.quote))


def bundle(vectors: Path, pair: Pair, chain: PckChain) -> Bundle:
    """Intel's statements as a bundle has them."""
    found = read_collateral(vectors, pair.collateral)
    platform = pcs.Platform.of(chain.certificates[0], chain.pck)
    return Bundle(
        {
            f"intel/tcb-info/{platform.fmspc.hex()}": pcs_answer(
                "tcbInfo", found.tcb_info, found.tcb_info_signature, found.tcb_info_chain
            ),
            "intel/qe-identity": pcs_answer(
                "enclaveIdentity",
                found.qe_identity,
                found.qe_identity_signature,
                found.qe_identity_chain,
            ),
            "intel/crl/root": Item(found.root_ca_crl, pair.now),
            f"intel/crl/{platform.ca}": Item(found.pck_crl, pair.now),
        }
    )


def verify(vectors: Path, pair: Pair, machine: Machines | None = None) -> Verdict:
    """By a release whose only image is the one in the quote."""
    evidence = Evidence("tdx", read_quote(vectors, pair.quote), (), b"")
    parsed = ParsedEvidence(evidence)
    assert isinstance(parsed.machine, TdxEvidence)
    report, chain = parsed.machine.quote.report, parsed.machine.pck_chain
    assert isinstance(chain, PckChain)
    tdx = replace(policy_of(report), opt_outs=frozenset())
    references = References(
        pair.now, {Role.WORKER_CPU: RoleReferences(tdx=(reference_of(report),))}
    )
    policy = Policy("production", Platforms(tdx=tdx), {})
    return verify_inventory(
        Inventory(bytes(32), evidence),
        manifest=accepting(machine or named_machine(parsed), references, policy),
        collateral=bundle(vectors, pair, chain),
        now=pair.now,
    )


@each_pair
def test_a_real_platform_is_named_and_verified(vectors: Path, pair: Pair) -> None:
    verdict = verify(vectors, pair)
    assert failed(verdict) == ["report data", "event log"]
    seen = {check.name: check.seen for check in verdict.checks}
    assert seen["platform instance"] == INSTANCES[pair.quote]


@each_pair
def test_the_name_of_another_machine_fails(vectors: Path, pair: Pair) -> None:
    """What is written is what was verified: the id in the certificate that signs."""
    other = Machines(platform_instances=(bytes(15) + b"\1",))
    assert "platform instance" in failed(verify(vectors, pair, other))


@pytest.mark.parametrize("name", sorted(VECTORS.keys() - {LEASED}))
def test_a_real_chip_is_named_and_verified(vectors: Path, name: str) -> None:
    """Without a revocation list, which none of these comes with."""
    evidence = evidence_of(vectors, name)
    report = Report.parse(evidence.report)
    snp = snp_policy_of(VECTORS[name], opt_outs=["insecure_without_revocation"])
    reference = SnpReference("published", report.measurement)
    references = References(AT, {Role.WORKER_CPU: RoleReferences(snp=(reference,))})
    machine = named_machine(ParsedEvidence(evidence))
    assert machine.chip_ids == (report.chip_id,)
    verdict = verify_inventory(
        Inventory(bytes(32), evidence),
        manifest=accepting(machine, references, Policy("production", Platforms(snp=snp), {})),
        collateral=Bundle(),
        now=AT,
    )
    assert failed(verdict) == ["report data"]


def test_a_real_cloud_that_masks_the_id_of_its_chip(vectors: Path) -> None:
    with pytest.raises(PolicyError, match="a masked chip id") as caught:
        named_machine(ParsedEvidence(evidence_of(vectors, LEASED)))
    assert caught.value.code == "no-machine-identity"
