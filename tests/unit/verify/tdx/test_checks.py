"""Each check of signatures, enclave, documents and chains: it fails, alone, when it should."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from confide.vendors.intel.quote import Quote
from confide.verify.x509 import is_revoked
from tests.support.intel_certificates import NOW, issue, pck_extension, revocation_list
from tests.support.mutations import with_field
from tests.support.simulated_intel import (
    MRSIGNER,
    POLICY,
    QuotingEnclave,
    SimulatedIntel,
    compact,
    qe_identity,
    software,
    tcb_info,
)
from tests.support.verdicts import Verify, failed


@pytest.mark.parametrize(
    ("qe", "check"),
    [
        (QuotingEnclave(miscselect=b"\1\0\0\0"), "QE report: MISCSELECT"),
        (QuotingEnclave(attributes=b"\x14" + bytes(15)), "QE report: ATTRIBUTES"),
        (QuotingEnclave(mrsigner=bytes(32)), "QE report: MRSIGNER"),
        (QuotingEnclave(isv_prod_id=1), "QE report: ISVPRODID"),
        (QuotingEnclave(isv_svn=3), "TCB status"),
    ],
)
def test_enclave_that_is_not_the_one(
    intel: SimulatedIntel, verify: Verify, qe: QuotingEnclave, check: str
) -> None:
    assert failed(verify(intel.quote(qe=qe))) == [check]


def test_debug_enclave_is_refused_whatever_the_identity_says(
    intel: SimulatedIntel, verify: Verify
) -> None:
    debug = QuotingEnclave(attributes=b"\x17" + bytes(15))
    assert failed(verify(intel.quote(qe=debug))) == ["QE report: ATTRIBUTES", "QE report: DEBUG"]
    blind = intel.collateral(
        identity=qe_identity(attributes="11" + "00" * 15, attributesMask="F9" + "FF" * 7 + "00" * 8)
    )
    assert failed(verify(intel.quote(qe=debug), collateral=blind)) == ["QE report: DEBUG"]


def test_bits_that_the_masks_leave_out_are_free(intel: SimulatedIntel, verify: Verify) -> None:
    identity = qe_identity(miscselectMask="FEFFFFFF", mrsigner=MRSIGNER.hex())
    quote = intel.quote(qe=QuotingEnclave(miscselect=b"\1\0\0\0"))
    verify(quote, collateral=intel.collateral(identity=identity)).require()


def test_authentication_data_may_have_any_length(intel: SimulatedIntel, verify: Verify) -> None:
    for size in (0, 1, 1000):
        verify(intel.quote(qe=QuotingEnclave(auth_data=bytes(size)))).require()


@pytest.mark.parametrize(
    ("offset", "check"),
    [
        (48 + 136, ["quote signature"]),  # MRTD
        (30, ["quote signature"]),  # user data of the header
        (636, ["quote signature"]),
        (636 + 64, ["QE report: attestation key", "quote signature"]),
        (770 + 384, ["QE report signature"]),
        (770 + 384 + 66, ["QE report: attestation key"]),  # QE authentication data
    ],
)
def test_changed_byte(intel: SimulatedIntel, verify: Verify, offset: int, check: list[str]) -> None:
    quote = bytearray(intel.quote())
    quote[offset] ^= 1
    assert set(check) <= set(failed(verify(bytes(quote))))


@pytest.mark.parametrize(
    ("field", "check"),
    [
        ("tcb_info_signature", "TCB info: signature"),
        ("qe_identity_signature", "QE identity: signature"),
    ],
)
def test_document_with_another_signature(
    intel: SimulatedIntel, verify: Verify, field: str, check: str
) -> None:
    collateral = intel.collateral()
    wrong = with_field(collateral, field, intel.tcb_signer.sign(b"something else"))
    assert failed(verify(collateral=wrong)) == [check]


def test_documents_are_signed_byte_by_byte(intel: SimulatedIntel, verify: Verify) -> None:
    collateral = intel.collateral()
    spaced = replace(collateral, tcb_info=collateral.tcb_info.replace(b",", b", "))
    assert failed(verify(collateral=spaced)) == ["TCB info: signature"]


def test_documents_cannot_stand_for_each_other(intel: SimulatedIntel, verify: Verify) -> None:
    collateral = intel.collateral()
    swapped = replace(
        collateral,
        tcb_info=collateral.qe_identity,
        tcb_info_signature=collateral.qe_identity_signature,
    )
    assert failed(verify(collateral=swapped)) == ["certificates and collateral"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("id", "SGX"), ("version", 2), ("version", 4), ("tcbType", 1), ("fmspc", "90c06f")],
)
def test_tcb_info_of_another_kind(
    intel: SimulatedIntel, verify: Verify, name: str, value: object
) -> None:
    collateral = intel.collateral(tcb_info(**{name: value}))
    assert failed(verify(collateral=collateral)) == ["certificates and collateral"]


@pytest.mark.parametrize(("name", "value"), [("id", "QE"), ("id", "QVE"), ("version", 1)])
def test_identity_of_another_enclave(
    intel: SimulatedIntel, verify: Verify, name: str, value: object
) -> None:
    collateral = intel.collateral(identity=qe_identity(**{name: value}))
    assert failed(verify(collateral=collateral)) == ["certificates and collateral"]


@pytest.mark.parametrize("what", ["TCB info", "QE identity"])
def test_documents_are_valid_to_the_second(
    intel: SimulatedIntel, verify: Verify, what: str
) -> None:
    times = {"issueDate": "2026-06-01T00:00:00Z", "nextUpdate": "2026-06-01T00:00:10Z"}
    collateral = (
        intel.collateral(tcb_info(**times))
        if what == "TCB info"
        else intel.collateral(identity=qe_identity(**times))
    )
    for now, expected in ((-1, [f"{what}: time"]), (0, []), (10, []), (11, [f"{what}: time"])):
        assert failed(verify(collateral=collateral, now=NOW + now)) == expected


@pytest.mark.parametrize("name", ["root_ca_crl", "pck_crl"])
def test_revocation_list_past_its_next_update(
    intel: SimulatedIntel, verify: Verify, name: str
) -> None:
    signer = intel.root if name == "root_ca_crl" else intel.platform_ca
    old = revocation_list(signer, next_update=datetime.fromtimestamp(NOW - 1, UTC))
    (check,) = failed(verify(collateral=with_field(intel.collateral(), name, old)))
    assert check == f"{'root' if name == 'root_ca_crl' else 'PCK'} CA's revocation list"


def test_revocation_list_of_another_ca(intel: SimulatedIntel, verify: Verify) -> None:
    """A list of the processor CA, a list of the root, and one that a stranger signed."""
    processor = issue("Intel SGX PCK Processor CA", intel.root, ca=True)
    stranger = issue("Intel SGX PCK Platform CA", intel.root, ca=True)
    for signer in (processor, intel.root, stranger):
        collateral = intel.collateral(pck_crl=revocation_list(signer))
        assert failed(verify(collateral=collateral)) == ["PCK CA's revocation list"]


def test_revocation_list_of_nobody_is_not_searched(
    intel: SimulatedIntel, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if it names the certificate: it is not known whose word that would be."""
    searched = []

    def search(crl: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
        searched.append(crl)
        return is_revoked(crl, certificate)

    monkeypatch.setattr("confide.verify.x509.is_revoked", search)
    stranger = issue("Intel SGX PCK Platform CA", intel.root, ca=True)
    forged = revocation_list(stranger, intel.pck.certificate)
    assert failed(verify(collateral=intel.collateral(pck_crl=forged))) == [
        "PCK CA's revocation list"
    ]
    assert {crl.issuer for crl in searched} == {intel.root.certificate.subject}


def test_processor_ca_is_as_good_as_the_platform_ca(intel: SimulatedIntel, verify: Verify) -> None:
    intel.platform_ca = issue("Intel SGX PCK Processor CA", intel.root, ca=True)
    intel.pck = intel.issue_pck()
    verify(intel.quote()).require()


def test_revocation_list_with_an_unknown_critical_extension(
    intel: SimulatedIntel, verify: Verify
) -> None:
    partial = x509.IssuingDistributionPoint(None, None, True, False, None, False, False)
    crl = revocation_list(
        intel.platform_ca, change=lambda builder: builder.add_extension(partial, critical=True)
    )
    collateral = intel.collateral(pck_crl=crl)
    assert failed(verify(collateral=collateral)) == ["certificates and collateral"]


def entry(serial: int, *, critical: bool) -> x509.RevokedCertificate:
    """An entry whose reason cannot be read."""
    reason = x509.UnrecognizedExtension(x509.CRLReason.oid, b"\xff")
    return (
        x509.RevokedCertificateBuilder()
        .serial_number(serial)
        .revocation_date(datetime.fromtimestamp(NOW, UTC))
        .add_extension(reason, critical=critical)
        .build()
    )


def test_entry_that_cannot_be_read(intel: SimulatedIntel, verify: Verify) -> None:
    """It counts for its serial number; a critical one makes the list useless (RFC 5280, 5.3)."""
    serial = intel.pck.certificate.serial_number

    def of(revoked: x509.RevokedCertificate) -> list[str]:
        crl = revocation_list(
            intel.platform_ca, change=lambda builder: builder.add_revoked_certificate(revoked)
        )
        return failed(verify(collateral=intel.collateral(pck_crl=crl)))

    assert of(entry(serial, critical=False)) == ["PCK certificate: revocation"]
    assert of(entry(serial + 1, critical=False)) == []
    assert of(entry(serial + 1, critical=True)) == ["certificates and collateral"]


@pytest.mark.parametrize("count", [1, 2])
def test_short_pck_chain(intel: SimulatedIntel, verify: Verify, count: int) -> None:
    names = failed(verify(intel.quote(chain=intel.pck_chain[:count])))
    assert names[:2] == ["root key", "PCK certificate: chain"]


@pytest.mark.parametrize("field", ["tcb_info_chain", "qe_identity_chain"])
def test_signers_chain_of_another_length(intel: SimulatedIntel, verify: Verify, field: str) -> None:
    signer, root = intel.signing_chain
    for chain in ((signer,), (signer, root, root), (signer, intel.platform_ca.der, root)):
        names = failed(verify(collateral=with_field(intel.collateral(), field, chain)))
        assert any(name.endswith("signer: chain") for name in names)
    empty = verify(collateral=with_field(intel.collateral(), field, ()))
    assert failed(empty) == ["certificates and collateral"]


def test_chain_in_another_order(intel: SimulatedIntel, verify: Verify) -> None:
    leaf, ca, root = intel.pck_chain
    assert failed(verify(intel.quote(chain=(root, ca, leaf)))) == ["certificates and collateral"]
    assert "PCK certificate: chain" in failed(verify(intel.quote(chain=(leaf, root, ca))))


def test_chain_with_one_certificate_too_many(intel: SimulatedIntel, verify: Verify) -> None:
    chain = (*intel.pck_chain, intel.root.der)
    assert failed(verify(intel.quote(chain=chain))) == ["evidence"]


def test_unknown_critical_extension_in_a_certificate(intel: SimulatedIntel, verify: Verify) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
    intel.tcb_signer = issue(
        "Intel SGX TCB Signing", intel.root, extensions=[unknown], critical=True
    )
    assert failed(verify(collateral=intel.collateral())) == [
        "TCB info signer: chain",
        "QE identity signer: chain",
    ]


def test_two_signers_at_a_time(intel: SimulatedIntel, verify: Verify) -> None:
    """While Intel changes its signer, TCB info and QE identity may come from different ones."""
    old = intel.collateral()
    intel.tcb_signer = issue("Intel SGX TCB Signing", intel.root)
    new = intel.collateral()
    mixed = replace(
        new,
        tcb_info=old.tcb_info,
        tcb_info_signature=old.tcb_info_signature,
        tcb_info_chain=old.tcb_info_chain,
    )
    verify(collateral=mixed).require()
    crossed = replace(mixed, tcb_info_chain=new.tcb_info_chain)
    assert failed(verify(collateral=crossed)) == ["TCB info: signature"]


def test_one_good_signer_does_not_vouch_for_the_other(
    intel: SimulatedIntel, verify: Verify
) -> None:
    """What was found of one certificate, issuer and place is not taken for another's."""
    good = intel.collateral()
    signer, root = intel.signing_chain
    ca = issue("Intel SGX TCB Signing", intel.root, ca=True)
    renewed = issue("Intel SGX TCB Signing", intel.root, key=intel.tcb_signer.key)
    stranger = SimulatedIntel().root
    for chain, names in (
        ((ca.der, root), ["QE identity signer: chain", "QE identity: signature"]),
        ((signer, stranger.der), ["root key", "QE identity signer: chain"]),
        ((renewed.der, root), []),
    ):
        mixed = replace(good, qe_identity_chain=chain)
        assert failed(verify(collateral=mixed)) == names


def test_certificate_past_its_time(intel: SimulatedIntel, verify: Verify) -> None:
    end = datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=5)
    intel.tcb_signer = issue("Intel SGX TCB Signing", intel.root, not_after=end)
    collateral = intel.collateral()
    verify(collateral=collateral, now=NOW + 5).require()
    late = verify(collateral=collateral, now=NOW + 6)
    assert failed(late) == ["validity of Intel SGX TCB Signing"]


def test_pck_certificate_that_does_not_name_its_platform(
    intel: SimulatedIntel, verify: Verify
) -> None:
    for extension in (b"", b"\x30\0", pck_extension(fmspc=bytes(5)), pck_extension()[:-1]):
        intel.pck = intel.issue_pck(extension=extension)
        assert failed(verify(intel.quote())) == ["certificates and collateral"]


def test_newest_level_is_the_first_of_the_signed_list(
    intel: SimulatedIntel, verify: Verify
) -> None:
    identity = qe_identity(software(4), software(6, "OutOfDate"))
    verify(collateral=intel.collateral(identity=identity)).require()


def test_parsed_documents_are_the_signed_ones(intel: SimulatedIntel) -> None:
    collateral = intel.collateral()
    assert collateral.tcb_info == compact(tcb_info())
    assert Quote.parse(intel.quote()).signed == intel.quote()[:632]


@pytest.mark.parametrize("field", ["mrseam", "fmspcs"])
def test_what_is_left_to_intel_stands_in_the_verdict(verify: Verify, field: str) -> None:
    name = {"mrseam": "MRSEAM", "fmspcs": "platform FMSPC"}[field]
    left = verify(policy=with_field(POLICY, field, None))
    (check,) = [check for check in left.checks if check.name == name]
    assert check.passed
    assert check.expected == "any that Intel's TCB info knows"
    assert failed(verify(policy=with_field(POLICY, field, ()))) == [name]
