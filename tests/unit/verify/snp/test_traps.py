"""Attacks and oddities that verifiers of SEV-SNP have fallen for, one named test each.

All chips here are SIMULATED; the same traps on real evidence: tests/vectors/test_snp_vectors.py.
"""

from __future__ import annotations

import dataclasses

import pytest

from confide.encoding.messages import from_map
from confide.errors import FormatError
from confide.protocol.policy.snp import SnpPolicy
from confide.vendors.amd.report import Product, Report
from confide.verify.snp.collateral import SnpCollateral
from tests.support.simulated_amd import (
    P384_ORDER,
    TCBS,
    SimulatedChip,
    make_authority,
    make_crl,
    root,
    rsa_key,
    with_signature,
)
from tests.support.snp_policy import REPORT_DATA, policy, policy_json
from tests.support.verdicts import Verify, failed


def test_root_that_looks_like_amds_is_refused(chip: SimulatedChip, verify: Verify) -> None:
    """Subject, issuer, serial number and times are those of the root that is known, the key is not:
    everything below it is in order.
    """
    name = "SIMULATED ARK milan"
    look_alike = make_authority(name, rsa_key("stranger"))
    assert look_alike.certificate.subject == root().certificate.subject
    forged = make_authority("SIMULATED SEV milan", rsa_key("ask"), look_alike)
    evidence = chip.but(signer=forged).evidence(REPORT_DATA)
    leaf, middle, _ = evidence.endorsements
    complete = dataclasses.replace(evidence, endorsements=(leaf, middle, look_alike.der))
    collateral = SnpCollateral(crl=make_crl(issuer=look_alike))
    assert failed(verify(complete, collateral=collateral)) == ["root"]


def test_no_root_but_amds_is_believed_by_default(
    chip: SimulatedChip, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert failed(verify(chip)) == ["root"]


def test_root_of_one_product_does_not_vouch_for_another(
    chip: SimulatedChip, verify: Verify
) -> None:
    """Milan's certificate says Genoa: the chain is Milan's, so it ends in the wrong root."""
    verdict = verify(chip.but(product_name="Genoa"))
    assert "root" in failed(verdict)


def test_renewed_root_certificate_is_the_same_root(chip: SimulatedChip, verify: Verify) -> None:
    """The key is known, not the certificate."""
    renewed = make_authority("SIMULATED ARK milan", rsa_key("ark milan"), serial=77)
    evidence = chip.evidence(REPORT_DATA)
    leaf, middle, _ = evidence.endorsements
    verify(dataclasses.replace(evidence, endorsements=(leaf, middle, renewed.der))).require()


@pytest.mark.parametrize("extra", [b"\0", bytes(4096 - 1184), b"\xff" * 32])
def test_report_ends_where_it_ends(chip: SimulatedChip, verify: Verify, extra: bytes) -> None:
    """A driver may hand over its whole page: the issuer cuts, the verifier takes nothing more."""
    evidence = chip.evidence(REPORT_DATA)
    longer = dataclasses.replace(evidence, report=evidence.report + extra)
    assert failed(verify(longer)) == ["evidence"]
    shorter = dataclasses.replace(evidence, report=evidence.report[:-1])
    assert failed(verify(shorter)) == ["evidence"]


def test_turin_has_an_eight_byte_hardware_id(verify: Verify) -> None:
    turin = SimulatedChip(product=Product.TURIN, hardware_id=b"\xaa" * 8)
    accepted = policy(chip_ids=[(b"\xaa" * 8 + bytes(56)).hex()])
    verify(turin, policy=accepted).require()
    filled = turin.but(chip_id=b"\xaa" * 64)
    assert failed(verify(filled, policy=accepted)) == ["chip id", "chip"]
    assert failed(verify(turin.but(hardware_id=b"\xaa" * 64), policy=accepted)) == ["evidence"]


def test_turin_has_another_tcb_layout(verify: Verify) -> None:
    turin = SimulatedChip(product=Product.TURIN, hardware_id=b"\xaa" * 8)
    accepted = policy(chip_ids=[(b"\xaa" * 8 + bytes(56)).hex()])
    milan_layout = TCBS[Product.MILAN]
    assert failed(verify(turin.but(launch_tcb=milan_layout), policy=accepted)) == ["evidence"]
    milan = SimulatedChip(launch_tcb=TCBS[Product.TURIN])
    assert failed(verify(milan)) == ["evidence"]


def test_debug_enabled_report_is_authentic_and_refused(chip: SimulatedChip, verify: Verify) -> None:
    debug = chip.but(policy=chip.policy | 1 << 19)
    verdict = verify(debug)
    assert failed(verdict) == ["guest policy: debug"]
    allowed = verify(debug, policy=policy(opt_outs=["insecure_allow_debug"]))
    allowed.require()
    expected = {check.name: check.expected for check in allowed.checks}["guest policy: debug"]
    assert expected == "anything, because of insecure_allow_debug"


def test_migration_agent_is_refused_without_its_own_opt_out(
    chip: SimulatedChip, verify: Verify
) -> None:
    agent = chip.but(policy=chip.policy | 1 << 18)
    assert failed(verify(agent)) == ["guest policy: migration-agent"]
    debug_only = policy(opt_outs=["insecure_allow_debug"])
    assert failed(verify(agent, policy=debug_only)) == ["guest policy: migration-agent"]
    verify(agent, policy=policy(opt_outs=["insecure_allow_migration_agent"])).require()


@pytest.mark.parametrize("name", sorted(policy_json()))
def test_unset_policy_is_an_error(name: str) -> None:
    unset = policy_json()
    del unset[name]
    with pytest.raises(FormatError, match=name):
        from_map(SnpPolicy, unset, "policy")


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("products", "product"),
        ("id_key_digests", "id key"),
        ("author_key_digests", "author key"),
        ("family_ids", "family id"),
        ("image_ids", "image id"),
        ("chip_ids", "chip"),
    ],
)
def test_empty_list_accepts_nothing(
    chip: SimulatedChip, verify: Verify, name: str, check: str
) -> None:
    empty = policy(**{name: {} if name == "products" else []})
    verdict = verify(chip, policy=empty)
    assert check in failed(verdict)


def test_report_says_genoa_and_certificate_milan(chip: SimulatedChip, verify: Verify) -> None:
    """Both have one TCB layout, so nothing else would tell."""
    assert failed(verify(chip.but(cpuid=b"\x19\xa1\x00"))) == ["processor"]


def test_unknown_processor_is_refused_and_not_taken_for_version_two(
    chip: SimulatedChip, verify: Verify
) -> None:
    assert failed(verify(chip.but(cpuid=b"\x1b\x00\x00"))) == ["evidence"]


def test_ecdsa_has_two_signatures_for_one_report(chip: SimulatedChip, verify: Verify) -> None:
    """Known and harmless: (r, -s) is valid where (r, s) is, so evidence is no unique identifier."""
    evidence = chip.evidence(REPORT_DATA)
    report = Report.parse(evidence.report)
    other = with_signature(evidence.report, report.signature_r, P384_ORDER - report.signature_s)
    assert other != evidence.report
    verify(dataclasses.replace(evidence, report=other)).require()


@pytest.mark.parametrize(("r", "s"), [(0, 0), (0, 1), (1, 0), (P384_ORDER, 1), (1, P384_ORDER)])
def test_signature_of_numbers_out_of_range(
    chip: SimulatedChip, verify: Verify, r: int, s: int
) -> None:
    evidence = chip.evidence(REPORT_DATA)
    forged = dataclasses.replace(evidence, report=with_signature(evidence.report, r, s))
    assert failed(verify(forged)) == ["signature"]
