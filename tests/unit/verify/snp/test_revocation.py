"""AMD's revocation list: signed, current, and about the right certificates. All SIMULATED."""

from __future__ import annotations

import pytest
from cryptography import x509

from confide.vendors.amd.report import Product
from confide.verify.snp.collateral import SnpCollateral
from tests.support.simulated_amd import (
    DAY,
    MADE,
    SimulatedChip,
    intermediate,
    make_authority,
    make_crl,
    name_of,
    revoked_entry,
    root,
    rsa_key,
)
from tests.support.snp_policy import policy
from tests.support.verdicts import Verify, failed


def crl(*args: object, **options: object) -> SnpCollateral:
    return SnpCollateral(crl=make_crl(*args, **options))  # type: ignore[arg-type]


def test_no_list_fails(chip: SimulatedChip, verify: Verify) -> None:
    assert failed(verify(chip, collateral=SnpCollateral())) == ["revocation list"]


def test_doing_without_is_an_opt_out(chip: SimulatedChip, verify: Verify) -> None:
    without = policy(opt_outs=["insecure_without_revocation"])
    verdict = verify(chip, collateral=SnpCollateral(), policy=without)
    verdict.require()
    expected = {check.name: check.expected for check in verdict.checks}["revocation list"]
    assert expected == "anything, because of insecure_without_revocation"


def test_list_is_never_used_past_its_end(chip: SimulatedChip, verify: Verify) -> None:
    end = MADE + 30 * DAY
    last = int(end.timestamp())
    verify(chip, now=last).require()
    assert failed(verify(chip, now=last + 1)) == ["revocation list"]


def test_list_from_the_future(chip: SimulatedChip, verify: Verify) -> None:
    assert failed(verify(chip, collateral=crl(start=MADE + 2 * DAY))) == ["revocation list"]


@pytest.mark.parametrize("signer", ["intermediate", "look-alike", "other product"])
def test_list_that_the_root_did_not_sign(chip: SimulatedChip, verify: Verify, signer: str) -> None:
    issuer = {
        "intermediate": intermediate(),
        "look-alike": make_authority("SIMULATED ARK milan", rsa_key("stranger")),
        "other product": root(Product.GENOA),
    }[signer]
    lists = crl([revoked_entry(chip.serial)], issuer=issuer)
    verdict = verify(chip, collateral=lists)
    assert failed(verdict) == ["revocation list"]
    # What it says of anybody is not even looked at
    assert "revocation" not in [check.name for check in verdict.checks]


def test_revoked_intermediate(chip: SimulatedChip, verify: Verify) -> None:
    serial = intermediate().certificate.serial_number
    verdict = verify(chip, collateral=crl([revoked_entry(99), revoked_entry(serial)]))
    assert failed(verdict) == ["revocation"]
    assert verdict.first_failed
    assert verdict.first_failed.seen == "revoked: SIMULATED SEV milan (serial number 2)"


def test_revoked_root(chip: SimulatedChip, verify: Verify) -> None:
    serial = root().certificate.serial_number
    verdict = verify(chip, collateral=crl([revoked_entry(serial)]))
    assert verdict.first_failed
    assert verdict.first_failed.seen == "revoked: SIMULATED ARK milan (serial number 1)"


def test_revoked_endorsement_key(chip: SimulatedChip, verify: Verify) -> None:
    """Of the intermediate's certificates, in the root's list: the entry names the issuer."""
    entry = revoked_entry(chip.serial, intermediate().certificate.subject)
    verdict = verify(chip, collateral=crl([entry]))
    assert failed(verdict) == ["revocation"]
    assert verdict.first_failed
    assert verdict.first_failed.seen == "revoked: SIMULATED VCEK (serial number 7)"


def test_issuer_of_an_entry_holds_for_those_behind_it(chip: SimulatedChip, verify: Verify) -> None:
    first = revoked_entry(99, intermediate().certificate.subject)
    assert failed(verify(chip, collateral=crl([first, revoked_entry(chip.serial)])))


def test_same_number_under_another_issuer_is_not_revoked(
    chip: SimulatedChip, verify: Verify
) -> None:
    """AMD gives every VCEK the number 0: an entry must never be taken for another issuer's."""
    verify(chip, collateral=crl([revoked_entry(chip.serial)])).require()
    other = revoked_entry(chip.serial, name_of("SIMULATED SEV genoa"))
    verify(chip, collateral=crl([other])).require()


def test_unknown_critical_extension(chip: SimulatedChip, verify: Verify) -> None:
    """It could say that the list is only about other certificates."""
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
    assert failed(verify(chip, collateral=crl(extensions=[(unknown, True)]))) == ["revocation list"]
    verify(chip, collateral=crl(extensions=[(unknown, False)])).require()


@pytest.mark.parametrize("bad", [b"", b"\x30\0", b"no list", make_crl() + b"\0", make_crl()[:-1]])
def test_what_is_no_list(chip: SimulatedChip, verify: Verify, bad: bytes) -> None:
    assert failed(verify(chip, collateral=SnpCollateral(crl=bad))) == ["revocation list"]


def test_any_changed_byte_of_the_list_fails(chip: SimulatedChip, verify: Verify) -> None:
    good = make_crl([revoked_entry(99)])
    for at in range(0, len(good), 3):
        changed = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        assert not verify(chip, collateral=SnpCollateral(crl=changed)).passed, f"byte {at}"
