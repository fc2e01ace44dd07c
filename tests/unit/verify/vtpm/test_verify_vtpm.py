"""Each check of a vTPM verdict, passed once and failed once by the attack that it is there for."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from confide.errors import VerificationError
from confide.host import development_ca as cloud
from confide.protocol.evidence import Evidence, VtpmReport
from confide.protocol.launch import BINDING_PCR
from confide.protocol.policy.vtpm import REQUIRED_PCRS, DevelopmentCa, VtpmReference
from confide.verify.vtpm import PCR_COVERS, closest_reference
from tests.support.fake_tpm import FakeTpm
from tests.support.mutations import with_field
from tests.support.verdicts import Verify, failed

NOW = 1_800_000_000


def flip(data: bytes, at: int = -1) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def test_good_evidence_passes_every_check(tpm: FakeTpm, verify: Verify) -> None:
    verdict = verify(tpm.evidence())
    verdict.require()
    names = [check.name for check in verdict.checks]
    assert names[:11] == [
        "evidence",
        "attestation key's chain",
        "issuer",
        "issuer certificate",
        "attestation key certificate",
        "attestation key validity",
        "issuer validity",
        "quote signature",
        "quote binding",
        "quoted registers",
        "quoted values",
    ]
    assert names[11:-2] == [f"PCR {n} ({PCR_COVERS[n]})" for n in REQUIRED_PCRS]
    assert names[-2:] == ["launch binding", "event log"]


def test_evidence_survives_its_encoding(tpm: FakeTpm, verify: Verify) -> None:
    verify(Evidence.parse(tpm.evidence().encode())).require()


def test_quote_by_another_key(tpm: FakeTpm, verify: Verify) -> None:
    other = type(tpm)()
    evidence = dataclasses.replace(tpm.evidence(), report=other.report().encode())
    assert failed(verify(evidence)) == ["quote signature"]


@pytest.mark.parametrize("part", ["quote", "signature"])
def test_one_flipped_bit_in_what_is_signed(tpm: FakeTpm, verify: Verify, part: str) -> None:
    report = tpm.report()
    at = 50 if part == "quote" else -1  # in the quote: a byte of the extra data
    changed = with_field(report, part, flip(getattr(report, part), at))
    assert "quote signature" in failed(verify(tpm.evidence(changed)))


def test_quote_for_other_data_is_a_replay(tpm: FakeTpm, verify: Verify) -> None:
    replayed = tpm.evidence(tpm.report(b"\xa5" * 32 + bytes(32)))
    assert failed(verify(replayed)) == ["quote binding"]


@pytest.mark.parametrize("extra_data", [b"", b"\x5a" * 31, b"\x5a" * 33, b"\x5a" * 64])
def test_quote_that_binds_less_or_more(tpm: FakeTpm, verify: Verify, extra_data: bytes) -> None:
    quote = tpm.quote(extra_data)
    report = VtpmReport(quote, tpm.sign(quote), tpm.pcrs)
    assert failed(verify(tpm.evidence(report))) == ["quote binding"]


def test_statement_that_no_tpm_made(tpm: FakeTpm, verify: Verify) -> None:
    tpm.magic = b"\xffTCH"
    verdict = verify(tpm.evidence())
    assert failed(verdict) == ["evidence"]
    assert "magic" in verdict.checks[0].seen


def test_statement_that_is_no_quote(tpm: FakeTpm, verify: Verify) -> None:
    tpm.kind = b"\x80\x17"
    verdict = verify(tpm.evidence())
    assert failed(verdict) == ["evidence"]
    assert "quote" in verdict.checks[0].seen


@pytest.mark.parametrize("pcr", REQUIRED_PCRS)
def test_other_value_in_a_pinned_register_names_what_it_covers(
    tpm: FakeTpm, verify: Verify, pcr: int
) -> None:
    tpm.measured[pcr] = b"\xee" * 32
    other = type(tpm)(key=tpm.key, measured=tpm.measured)
    verdict = verify(other.evidence())
    assert failed(verdict) == [f"PCR {pcr} ({PCR_COVERS[pcr]})"]
    with pytest.raises(VerificationError, match=f"PCR {pcr} ") as error:
        verdict.require()
    assert error.value.seen == other.pcrs[pcr].hex()


@pytest.mark.parametrize("pcr", [*REQUIRED_PCRS, BINDING_PCR])
def test_reported_value_that_was_not_quoted(tpm: FakeTpm, verify: Verify, pcr: int) -> None:
    """A lie about a register: the manifest's value is sent, another one was quoted."""
    good = tpm.pcrs[pcr]
    tpm.pcrs[pcr] = b"\xee" * 32
    report = tpm.report()
    told = dataclasses.replace(report, pcrs={**report.pcrs, pcr: good})
    assert failed(verify(tpm.evidence(told))) == ["quoted values"]


def test_two_registers_swapped(tpm: FakeTpm, verify: Verify) -> None:
    report = tpm.report()
    swapped = {**report.pcrs, 4: report.pcrs[5], 5: report.pcrs[4]}
    names = failed(verify(tpm.evidence(dataclasses.replace(report, pcrs=swapped))))
    assert "quoted values" in names
    assert f"PCR 4 ({PCR_COVERS[4]})" in names


@pytest.mark.parametrize("pcr", REQUIRED_PCRS)
def test_register_left_out_of_the_quote(tpm: FakeTpm, verify: Verify, pcr: int) -> None:
    del tpm.pcrs[pcr]
    verdict = verify(tpm.evidence())
    assert failed(verdict) == [f"PCR {pcr} ({PCR_COVERS[pcr]})"]
    assert verdict.first_failed is not None
    assert verdict.first_failed.seen == "not quoted"


def test_register_left_out_of_the_report_only(tpm: FakeTpm, verify: Verify) -> None:
    report = tpm.report()
    without = {n: value for n, value in report.pcrs.items() if n != 12}
    names = failed(verify(tpm.evidence(dataclasses.replace(report, pcrs=without))))
    assert names[:2] == ["quoted registers", "quoted values"]


def test_no_reference_fails(tpm: FakeTpm, verify: Verify) -> None:
    for references in ([], [VtpmReference("empty", {})]):
        assert "boot registers" in failed(verify(tpm.evidence(), references=references))


@pytest.mark.parametrize("pcr", REQUIRED_PCRS)
def test_a_reference_that_leaves_a_register_open_fails_even_beside_a_full_one(
    tpm: FakeTpm, verify: Verify, pcr: int
) -> None:
    pinned = {n: value for n, value in tpm.reference().pcrs.items() if n != pcr}
    references = [tpm.reference(), VtpmReference("open", pinned)]
    assert failed(verify(tpm.evidence(), references=references)) == ["boot registers"]


def test_one_of_several_shapes_is_enough(tpm: FakeTpm, verify: Verify) -> None:
    wrong = VtpmReference("other", dict.fromkeys(REQUIRED_PCRS, b"\x01" * 32))
    verify(tpm.evidence(), references=[wrong, tpm.reference("mine")]).require()


def test_shapes_are_never_mixed_and_the_closest_is_shown(tpm: FakeTpm, verify: Verify) -> None:
    good = tpm.reference().pcrs
    far = VtpmReference("far", {**good, 4: b"\1" * 32, 5: b"\2" * 32})
    near = VtpmReference("near", {**good, 11: b"\3" * 32})
    verdict = verify(tpm.evidence(), references=[far, near])
    assert failed(verdict) == [f"PCR 11 ({PCR_COVERS[11]})"]
    assert verdict.first_failed is not None
    assert verdict.first_failed.source == "manifest, shape near"
    assert closest_reference(tpm.pcrs, [far, near]) is near


def test_another_ca_than_the_manifest_names(tpm: FakeTpm, verify: Verify) -> None:
    assert failed(verify(tpm.evidence(), authority=DevelopmentCa(b"\1" * 32))) == ["issuer"]
    assert failed(verify(tpm.evidence(), authority=DevelopmentCa(b""))) == ["issuer"]


def test_own_ca_with_the_development_ca_name(
    tpm: FakeTpm, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attacker's CA of the same name fails by its key."""
    own = ec.generate_private_key(ec.SECP256R1())
    with monkeypatch.context() as patched:
        patched.setattr(cloud, "development_ca_key", lambda: own)
        chain = (tpm.certificate(), cloud.development_ca_certificate())
    evidence = dataclasses.replace(tpm.evidence(), endorsements=chain)
    assert failed(verify(evidence)) == ["issuer"]


def test_certificate_by_another_ca_beside_the_right_issuer(
    tpm: FakeTpm, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    with monkeypatch.context() as patched:
        patched.setattr(cloud, "development_ca_key", lambda: own)
        certificate = tpm.certificate()
    chain = (certificate, cloud.development_ca_certificate())
    evidence = dataclasses.replace(tpm.evidence(), endorsements=chain)
    assert failed(verify(evidence)) == ["attestation key certificate"]


def build_certificate(tpm: FakeTpm, *, usage: str | None, ca: bool, issuer: str) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    start = datetime.fromtimestamp(NOW, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(tpm.key.public_key())
        .serial_number(1)
        .not_valid_before(start - timedelta(days=1))
        .not_valid_after(start + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if usage is not None:
        oid = x509.ObjectIdentifier(usage)
        builder = builder.add_extension(x509.ExtendedKeyUsage([oid]), critical=False)
    signed = builder.sign(cloud.development_ca_key(), hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("usage", "ca", "issuer", "good"),
    [
        ("2.23.133.8.3", False, cloud.CA_NAME, True),
        (None, False, cloud.CA_NAME, False),
        ("1.3.6.1.5.5.7.3.1", False, cloud.CA_NAME, False),  # a TLS server's key
        ("2.23.133.8.3", True, cloud.CA_NAME, False),
        ("2.23.133.8.3", False, "someone else", False),
    ],
)
def test_certificate_profile(
    tpm: FakeTpm, verify: Verify, usage: str | None, ca: bool, issuer: str, good: bool
) -> None:
    chain = (
        build_certificate(tpm, usage=usage, ca=ca, issuer=issuer),
        cloud.development_ca_certificate(),
    )
    verdict = verify(dataclasses.replace(tpm.evidence(), endorsements=chain))
    assert failed(verdict) == ([] if good else ["attestation key certificate"])


def test_issuer_that_is_no_ca(tpm: FakeTpm, verify: Verify) -> None:
    """A leaf must not vouch for another key, even the development CA's own key in a leaf."""
    leaf = build_certificate(
        type(tpm)(key=cloud.development_ca_key()), usage=None, ca=False, issuer="test"
    )
    evidence = dataclasses.replace(tpm.evidence(), endorsements=(tpm.certificate(), leaf))
    assert "issuer certificate" in failed(verify(evidence))


@pytest.mark.parametrize("days", [-2, 40])
def test_attestation_key_certificate_out_of_its_time(
    tpm: FakeTpm, verify: Verify, days: int
) -> None:
    names = failed(verify(tpm.evidence(), now=NOW + days * 86400))
    assert names == ["attestation key validity"]


def test_issuer_out_of_its_time(tpm: FakeTpm, verify: Verify) -> None:
    tpm.certified = datetime(2046, 1, 1, tzinfo=UTC)
    now = int(datetime(2046, 1, 2, tzinfo=UTC).timestamp())
    assert failed(verify(tpm.evidence(), now=now)) == ["issuer validity"]


@pytest.mark.parametrize("chain", [(), (b"x",)])
def test_certificates_that_are_none(tpm: FakeTpm, verify: Verify, chain: tuple[bytes, ...]) -> None:
    assert failed(verify(dataclasses.replace(tpm.evidence(), endorsements=chain))) == ["evidence"]


@pytest.mark.parametrize("count", [1, 5])
def test_wrong_number_of_certificates(tpm: FakeTpm, verify: Verify, count: int) -> None:
    leaf, issuer = tpm.evidence().endorsements
    chain = (leaf, *[issuer] * (count - 1))
    evidence = dataclasses.replace(tpm.evidence(), endorsements=chain)
    assert failed(verify(evidence))[0] == "attestation key's chain"


def test_certificates_swapped(tpm: FakeTpm, verify: Verify) -> None:
    evidence = tpm.evidence()
    swapped = dataclasses.replace(evidence, endorsements=evidence.endorsements[::-1])
    assert "issuer" in failed(verify(swapped))


def test_event_log_that_tells_another_story(tpm: FakeTpm, verify: Verify) -> None:
    lie = type(tpm)(measured={**tpm.measured, 4: b"\x11" * 32}).evidence().event_log
    verdict = verify(dataclasses.replace(tpm.evidence(), event_log=lie))
    assert failed(verdict) == ["event log"]
    assert verdict.checks[-1].seen == "other values for PCR 4"


def test_event_log_without_a_registers_events(tpm: FakeTpm, verify: Verify) -> None:
    log = type(tpm)(measured={n: d for n, d in tpm.measured.items() if n != 9}).evidence().event_log
    assert failed(verify(dataclasses.replace(tpm.evidence(), event_log=log))) == ["event log"]


@pytest.mark.parametrize("log", [b"", b"\0" * 40, b"not a log"])
def test_event_log_that_cannot_be_read(tpm: FakeTpm, verify: Verify, log: bytes) -> None:
    assert failed(verify(dataclasses.replace(tpm.evidence(), event_log=log))) == ["event log"]


def test_register_that_no_shape_pins_may_go_on(tpm: FakeTpm, verify: Verify) -> None:
    tpm.pcrs[10] = b"\x77" * 32  # files measured at run time, after the firmware's log
    verify(tpm.evidence()).require()


def test_every_truncation_of_the_report_fails(tpm: FakeTpm, verify: Verify) -> None:
    evidence = tpm.evidence()
    for size in range(0, len(evidence.report), 7):
        cut = dataclasses.replace(evidence, report=evidence.report[:size])
        assert not verify(cut).passed
