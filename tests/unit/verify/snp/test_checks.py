"""Each check of an SEV-SNP verdict, passed once and failed once by what it is there for.

All chips here are SIMULATED.
"""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from confide.errors import VerificationError
from confide.protocol.policy.snp import PINNED_POLICY, SnpReference
from confide.vendors.amd.report import Product
from confide.verify.snp.collateral import SnpCollateral
from tests.support.simulated_amd import (
    CSP_ID,
    LAUNCH_DIGEST,
    TCBS,
    SimulatedChip,
    make_crl,
    root,
)
from tests.support.snp_policy import REPORT_DATA, policy, policy_of_products, products_json
from tests.support.verdicts import Verify, failed

VLEK = SimulatedChip(csp_id=CSP_ID, chip_id=bytes(64))


def raised(tcb: bytes, at: int, by: int = 1) -> bytes:
    return tcb[:at] + bytes([tcb[at] + by]) + tcb[at + 1 :]


def test_good_evidence_passes_every_check(chip: SimulatedChip, verify: Verify) -> None:
    verdict = verify(chip)
    verdict.require()
    assert [check.name for check in verdict.checks] == [
        "evidence",
        "event log",
        "root",
        "root certificate",
        "intermediate certificate",
        "endorsement key certificate",
        "endorsement key validity",
        "intermediate validity",
        "root validity",
        "revocation list",
        "revocation",
        "signing key",
        "signature",
        "TCB of the endorsement key",
        "processor",
        "chip key",
        "chip id",
        "report data",
        "launch digest",
        "launch binding",
        "guest policy: debug",
        "guest policy: migration-agent",
        "VMPL",
        "product",
        "guest policy",
        "platform information",
        "reported TCB",
        "committed TCB",
        "current TCB",
        "launch TCB",
        "launch mitigations",
        "current mitigations",
        "chip",
        "guest SVN",
        "id key",
        "author key",
        "family id",
        "image id",
    ]
    digest = next(check for check in verdict.checks if check.name == "launch digest")
    assert digest.source == "manifest, shape simulated"


@pytest.mark.parametrize("version", [2, 3, 4, 5])
@pytest.mark.parametrize("product", list(Product))
def test_every_version_and_product(verify: Verify, version: int, product: Product) -> None:
    hardware_id = bytes(range(8)) if product is Product.TURIN else bytes(range(1, 65))
    chip = SimulatedChip(product=product, version=version, hardware_id=hardware_id)
    accepted = policy(chip_ids=[hardware_id.ljust(64, b"\0").hex()])
    verify(chip, policy=accepted).require()
    verify(chip.but(wrap_hardware_id=True), policy=accepted).require()


def test_leased_key(verify: Verify) -> None:
    verdict = verify(VLEK, policy=policy(chip_ids=[]))
    verdict.require()
    assert {"chip id", "chip key", "chip"}.isdisjoint(check.name for check in verdict.checks)
    for csp_ids in ([], ["CN=another.cloud"]):
        assert failed(verify(VLEK, policy=policy(chip_ids=[], csp_ids=csp_ids))) == ["cloud"]


def test_masked_chip_id_is_refused_where_chips_are_listed(verify: Verify) -> None:
    """A VLEK names no chip, so without this check a host could mask the id of any chip."""
    verdict = verify(VLEK)
    assert failed(verdict) == ["chip"]
    assert verdict.first_failed and verdict.first_failed.seen == "a masked chip id (zeros)"
    assert failed(verify(VLEK.but(chip_id=b"\xee" * 64))) == ["chip"]
    verify(VLEK.but(chip_id=bytes(range(1, 65)))).require()


def test_certificates_from_collateral(chip: SimulatedChip, verify: Verify) -> None:
    evidence = chip.evidence(REPORT_DATA)
    leaf, issuer, top = evidence.endorsements
    for given in range(4):
        bare = dataclasses.replace(evidence, endorsements=evidence.endorsements[:given])
        collateral = SnpCollateral(leaf, issuer, top, make_crl())
        verify(bare, collateral=collateral).require()
        verdict = verify(bare)
        assert verdict.passed == (given == 3)
        assert given == 3 or failed(verdict) == ["evidence"]


def test_evidence_comes_before_collateral(chip: SimulatedChip, verify: Verify) -> None:
    """A host can so make its evidence fail, which it can anyway, and never make it pass."""
    other = chip.but(serial=8).certificate()
    collateral = SnpCollateral(endorsement_key=other, crl=make_crl())
    verify(chip, collateral=collateral).require()


def test_one_certificate_too_many(chip: SimulatedChip, verify: Verify) -> None:
    evidence = chip.evidence(REPORT_DATA)
    longer = dataclasses.replace(evidence, endorsements=(*evidence.endorsements, root().der))
    assert failed(verify(longer)) == ["evidence"]


def test_event_log_that_nothing_vouches_for(chip: SimulatedChip, verify: Verify) -> None:
    evidence = dataclasses.replace(chip.evidence(REPORT_DATA), event_log=b"boot")
    assert failed(verify(evidence)) == ["event log"]


def test_report_by_another_key(chip: SimulatedChip, verify: Verify) -> None:
    other = chip.but(key=ec.generate_private_key(ec.SECP384R1()))
    mixed = dataclasses.replace(chip.evidence(REPORT_DATA), report=other.report(REPORT_DATA))
    assert failed(verify(mixed)) == ["signature"]


def test_signature_without_numbers(chip: SimulatedChip, verify: Verify) -> None:
    """As firmware writes it when the chip's key is masked."""
    evidence = chip.evidence(REPORT_DATA)
    unsigned = dataclasses.replace(evidence, report=chip.unsigned_report(REPORT_DATA))
    assert failed(verify(unsigned)) == ["signature"]


def test_masked_chip_key(chip: SimulatedChip, verify: Verify) -> None:
    assert failed(verify(chip.but(key_info=2))) == ["chip key"]


@pytest.mark.parametrize(("key_info", "seen"), [(4, "VLEK"), (7 << 2, "NONE")])
def test_report_that_names_another_kind_of_key(
    chip: SimulatedChip, verify: Verify, key_info: int, seen: str
) -> None:
    verdict = verify(chip.but(key_info=key_info))
    assert failed(verdict) == ["signing key"]
    assert verdict.first_failed and verdict.first_failed.seen == seen


def test_report_of_another_chip(chip: SimulatedChip, verify: Verify) -> None:
    """Also one whose chip id the host has masked: nobody could tell which chip it was."""
    assert failed(verify(chip.but(chip_id=b"\xee" * 64))) == ["chip id", "chip"]
    assert failed(verify(chip.but(chip_id=bytes(64)))) == ["chip id", "chip"]


def test_report_of_another_processor_than_the_certificate(
    chip: SimulatedChip, verify: Verify
) -> None:
    assert failed(verify(chip.but(cpuid=b"\x19\x11\x01"))) == ["processor"]


@pytest.mark.parametrize("at", [0, 1, 6, 7])
def test_certificate_for_another_tcb(chip: SimulatedChip, verify: Verify, at: int) -> None:
    newer = raised(TCBS[Product.MILAN], at)
    verdict = verify(chip.but(certificate_tcb=newer))
    assert failed(verdict) == ["TCB of the endorsement key"]


def test_report_for_other_data_is_a_replay(chip: SimulatedChip, verify: Verify) -> None:
    assert failed(verify(chip, report_data=b"\1" * 64)) == ["report data"]
    assert failed(verify(chip, report_data=b"")) == ["report data"]


def test_other_launch_digest(chip: SimulatedChip, verify: Verify) -> None:
    verdict = verify(chip.but(measurement=b"\xee" * 48))
    assert failed(verdict) == ["launch digest"]
    with pytest.raises(VerificationError, match="launch digest"):
        verdict.require()


def test_references_are_alternatives(chip: SimulatedChip, verify: Verify) -> None:
    references = [SnpReference("one", b"\1" * 48), SnpReference("two", LAUNCH_DIGEST)]
    verdict = verify(chip, references=references)
    verdict.require()
    assert "shape two" in {c.name: c.source for c in verdict.checks}["launch digest"]


def test_no_reference_accepts_nothing(chip: SimulatedChip, verify: Verify) -> None:
    verdict = verify(chip, references=[])
    assert failed(verdict) == ["launch digest"]
    assert verdict.first_failed and verdict.first_failed.expected == "nothing is accepted"


def test_vmpl(chip: SimulatedChip, verify: Verify) -> None:
    assert failed(verify(chip.but(vmpl=1))) == ["VMPL"]
    assert failed(verify(chip.but(vmpl=0xFFFFFFFF))) == ["VMPL"]
    verify(chip.but(vmpl=1), policy=policy(vmpl=1)).require()
    assert failed(verify(chip, policy=policy(vmpl=1))) == ["VMPL"]


@pytest.mark.parametrize("product", list(Product))
@pytest.mark.parametrize("which", ["reported", "committed", "current", "launch"])
def test_each_component_of_each_tcb_has_a_minimum(
    verify: Verify, product: Product, which: str
) -> None:
    hardware_id = b"\xaa" * (8 if product is Product.TURIN else 64)
    good = SimulatedChip(product=product, hardware_id=hardware_id)
    accepted = policy(chip_ids=[hardware_id.ljust(64, b"\0").hex()])
    tcb = TCBS[product]
    for at in (at for at in range(8) if tcb[at]):
        lower = good.but(**{f"{which}_tcb": raised(tcb, at, -1)})
        verdict = verify(lower, policy=accepted)
        assert failed(verdict) == [f"{which} TCB"]
        higher = good.but(**{f"{which}_tcb": raised(tcb, at)})
        verify(higher, policy=accepted).require()


def test_higher_component_does_not_make_up_for_a_lower_one(
    chip: SimulatedChip, verify: Verify
) -> None:
    mixed = bytes([255, 255, 0, 0, 0, 0, 2, 255])
    assert failed(verify(chip.but(launch_tcb=mixed))) == ["launch TCB"]


def test_product_without_a_policy(chip: SimulatedChip, verify: Verify) -> None:
    """There is nothing to compare its versions and bits with: the one check says so."""
    accepted = policy(products={"genoa": products_json()["genoa"]})
    assert failed(verify(chip, policy=accepted)) == ["product"]
    verify(SimulatedChip(product=Product.GENOA), policy=accepted).require()


@pytest.mark.parametrize("bit", [bit.bit_length() - 1 for bit in PINNED_POLICY])
def test_each_bit_of_the_guest_policy(chip: SimulatedChip, verify: Verify, bit: int) -> None:
    other = chip.but(policy=chip.policy ^ 1 << bit)
    verdict = verify(other)
    assert failed(verdict) == ["guest policy"]
    assert verdict.first_failed
    assert verdict.first_failed.expected == "exactly smt (the closest of 1 accepted sets)"


@pytest.mark.parametrize("bit", range(8))
def test_each_bit_of_the_platform(chip: SimulatedChip, verify: Verify, bit: int) -> None:
    other = chip.but(platform_info=chip.platform_info ^ 1 << bit)
    assert failed(verify(other)) == ["platform information"]


def test_sets_of_bits_are_accepted_as_a_whole(chip: SimulatedChip, verify: Verify) -> None:
    """Two sets that differ in two bits: neither bit may differ alone."""
    accepted = policy_of_products(platform_info=[["ecc"], ["smt", "ecc", "alias-check"]])
    for info, is_accepted in ((0b100, True), (0b100101, True), (0b101, False), (0b100100, False)):
        verdict = verify(chip.but(platform_info=info), policy=accepted)
        assert failed(verdict) == ([] if is_accepted else ["platform information"])


@pytest.mark.parametrize(
    ("field", "check"),
    [("guest_policy", "guest policy"), ("platform_info", "platform information")],
)
def test_no_set_of_bits_accepts_nothing(
    chip: SimulatedChip, verify: Verify, field: str, check: str
) -> None:
    verdict = verify(chip, policy=policy_of_products(**{field: []}))
    assert failed(verdict) == [check]
    assert verdict.first_failed and verdict.first_failed.expected == "nothing is accepted"


def test_each_product_has_its_own_sets(verify: Verify) -> None:
    """A set of another product's does not count."""
    products = products_json()
    products["milan"]["platform_info"] = [["ecc"]]
    accepted = policy(products=products)
    milan, genoa = (SimulatedChip(product=product) for product in (Product.MILAN, Product.GENOA))
    verify(genoa, policy=accepted).require()
    assert failed(verify(milan, policy=accepted)) == ["platform information"]
    verify(milan.but(platform_info=0b100), policy=accepted).require()
    assert failed(verify(genoa.but(platform_info=0b100), policy=accepted)) == [
        "platform information"
    ]


def test_mitigations(chip: SimulatedChip, verify: Verify) -> None:
    demanding = policy_of_products(mitigations=0b101)
    five = chip.but(version=5)
    both = ["launch mitigations", "current mitigations"]
    assert failed(verify(chip, policy=demanding)) == both, "version 3 states none"
    assert failed(verify(five, policy=demanding)) == both
    assert failed(verify(five.but(mitigations=(0b100, 0b101)), policy=demanding)) == both[:1]
    assert failed(verify(five.but(mitigations=(0b101, 0b001)), policy=demanding)) == both[1:]
    verify(five.but(mitigations=(0b111, 0b101)), policy=demanding).require()


@pytest.mark.parametrize(
    ("field", "name", "size", "listed"),
    [
        ("id_key_digest", "id key", 48, "id_key_digests"),
        ("author_key_digest", "author key", 48, "author_key_digests"),
        ("family_id", "family id", 16, "family_ids"),
        ("image_id", "image id", 16, "image_ids"),
    ],
)
def test_what_the_owner_put_in(
    chip: SimulatedChip, verify: Verify, field: str, name: str, size: int, listed: str
) -> None:
    other = chip.but(**{field: b"\xee" * size})
    assert failed(verify(other)) == [name]
    verify(other, policy=policy(**{listed: ["ee" * size]})).require()
    assert failed(verify(chip, policy=policy(**{listed: []}))) == [name]


def test_guest_svn(chip: SimulatedChip, verify: Verify) -> None:
    assert failed(verify(chip.but(guest_svn=2))) == ["guest SVN"]
    verify(chip.but(guest_svn=4)).require()


def test_chips_are_listed_one_by_one(chip: SimulatedChip, verify: Verify) -> None:
    assert failed(verify(chip, policy=policy(chip_ids=[]))) == ["chip"]
    assert failed(verify(chip, policy=policy(chip_ids=["ee" * 64]))) == ["chip"]


def test_any_chip_is_an_opt_out(chip: SimulatedChip, verify: Verify) -> None:
    verdict = verify(chip, policy=policy(chip_ids=[], opt_outs=["insecure_any_chip"]))
    verdict.require()
    expected = {check.name: check.expected for check in verdict.checks}["chip"]
    assert expected == "anything, because of insecure_any_chip"
