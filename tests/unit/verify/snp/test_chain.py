"""SEV-SNP: the certificates between the report's key and AMD's root."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from confide.verify.snp.collateral import SnpCollateral
from tests.support.simulated_amd import (
    DAY,
    MADE,
    NOW,
    SimulatedChip,
    intermediate,
    make_authority,
    make_crl,
    root,
    rsa_key,
)
from tests.support.snp_policy import REPORT_DATA
from tests.support.verdicts import Verify, failed


def test_each_certificate_is_of_its_time(chip: SimulatedChip, verify: Verify) -> None:
    before, after = int(MADE.timestamp()) - 1, int((MADE + 365 * DAY).timestamp()) + 1
    always = SnpCollateral(crl=make_crl(start=MADE - DAY, end=MADE + 9999 * DAY))
    expected = ["endorsement key validity", "intermediate validity", "root validity"]
    assert failed(verify(chip, now=before, collateral=always)) == expected
    assert failed(verify(chip, now=after, collateral=always)) == expected[:1]
    verify(chip, now=before + 1, collateral=always).require()
    verify(chip, now=after - 1, collateral=always).require()
    old = make_authority("SIMULATED SEV milan", rsa_key("ask"), root(), made=MADE - 4000 * DAY)
    assert failed(verify(chip.but(signer=old))) == ["intermediate validity"]


def test_intermediate_that_the_root_did_not_sign(chip: SimulatedChip, verify: Verify) -> None:
    stranger = make_authority("SIMULATED ARK milan", rsa_key("stranger"))
    forged = make_authority("SIMULATED SEV milan", rsa_key("ask"), stranger)
    assert failed(verify(chip.but(signer=forged))) == ["intermediate certificate"]


def test_intermediate_that_is_no_ca(chip: SimulatedChip, verify: Verify) -> None:
    leaf = make_authority("SIMULATED SEV milan", rsa_key("ask"), root(), ca=False)
    assert failed(verify(chip.but(signer=leaf))) == ["intermediate certificate"]


def test_intermediate_with_a_short_key(chip: SimulatedChip, verify: Verify) -> None:
    short = make_authority("SIMULATED SEV milan", rsa_key("short", 2048), root())
    assert failed(verify(chip.but(signer=short))) == ["intermediate certificate"]


def test_endorsement_key_of_another_intermediate(chip: SimulatedChip, verify: Verify) -> None:
    """Same name, other key."""
    other = make_authority("SIMULATED SEV milan", rsa_key("stranger"), root())
    evidence = chip.but(signer=other).evidence(REPORT_DATA)
    leaf, _, top = evidence.endorsements
    mixed = dataclasses.replace(evidence, endorsements=(leaf, intermediate().der, top))
    assert failed(verify(mixed)) == ["endorsement key certificate"]


def test_chain_in_another_order(chip: SimulatedChip, verify: Verify) -> None:
    evidence = chip.evidence(REPORT_DATA)
    leaf, middle, top = evidence.endorsements
    for order in ((leaf, top, middle), (middle, leaf, top), (top, middle, leaf)):
        swapped = dataclasses.replace(evidence, endorsements=order)
        assert not verify(swapped).passed


def test_endorsement_key_that_the_root_signed(chip: SimulatedChip, verify: Verify) -> None:
    evidence = chip.but(signer=root()).evidence(REPORT_DATA)
    leaf, _, top = evidence.endorsements
    skipping = dataclasses.replace(evidence, endorsements=(leaf, intermediate().der, top))
    assert failed(verify(skipping)) == ["endorsement key certificate"]


def test_time_that_no_calendar_has(chip: SimulatedChip, verify: Verify) -> None:
    verdict = verify(chip, now=10**18)
    assert "root validity" in failed(verdict)
    assert verify(chip, now=NOW + int(timedelta(days=1).total_seconds())).passed
