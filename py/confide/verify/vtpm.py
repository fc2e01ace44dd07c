"""Verifies vTPM evidence: who vouches for the key, what it signed, and what that says was booted.

Rules that hold for every verdict which passes:
- The attestation key's certificate is signed by the CA whose public key the manifest names, and
  both are valid at the time the caller gives.
- That key signed exactly this quote; the quote was made by a TPM, binds the caller's data, and
  covers exactly the register values that were sent along.
- One reference of the manifest matches in every register that it pins. References are never mixed,
  and none leaves one of `REQUIRED_PCRS` open.
- The event log replays to those registers. It decides nothing: it is there to explain.

Source: TCG TPM 2.0 Library, Part 1, 36.6 (attestation); TCG PC Client Platform Firmware Profile,
3.3.4 (PCR usage); the UAPI group's Linux TPM PCR registry for 8 and above.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import SignatureAlgorithmOID

from confide.errors import FormatError
from confide.formats.binding import TPM_EXTRA_DATA_SIZE
from confide.formats.certificates import load_certificate, public_key_of
from confide.formats.evidence import Evidence, VtpmReport
from confide.formats.manifest import REQUIRED_PCRS, VtpmReference
from confide.formats.tpm import (
    AK_USAGE_OID,
    EcdsaSignature,
    Quote,
    RsassaSignature,
    parse_signature,
    pcr_digest,
)
from confide.verify.verdict import Check, Verdict, check_equal
from measure import eventlog
from measure.errors import MeasureError

PCR_COVERS = {
    0: "firmware code",
    1: "firmware configuration",
    2: "drivers on devices (option ROMs)",
    3: "configuration of drivers on devices",
    4: "boot programs: the unified kernel image with its kernel, initrd and command line",
    5: "partition table and boot manager configuration",
    6: "platform events",
    7: "Secure Boot state and keys",
    8: "boot loader commands",
    9: "initrd and command line as the kernel took them",
    10: "files measured at run time",
    11: "sections of the unified kernel image: kernel, initrd, command line with the root hashes",
    12: "command line, credentials and drivers added from outside the image",
    13: "system extensions added from outside the image",
    14: "machine owner keys",
    15: "machine identity",
}
MIN_RSA_BITS = 2048

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

_NONCE = "nonce and bound data"
_MANIFEST = "manifest"
_FORMAT = "evidence format"


def verify_vtpm(
    evidence: Evidence,
    *,
    report_data: bytes,
    references: Sequence[VtpmReference],
    development_ca: bytes,
    now: int,
) -> Verdict:
    """Checks everything at `now` (unix seconds); never raises for bad evidence, the verdict fails.

    `report_data` is 64 bytes, `development_ca` the SHA-256 (32 bytes) of the CA's SPKI DER.
    """
    try:
        report = VtpmReport.parse(evidence.report)
        quote = Quote.parse(report.quote)
        signature = parse_signature(report.signature)
        if len(evidence.endorsements) != 2:
            raise FormatError(
                "bad-endorsements",
                "a vTPM comes with two certificates",
                expected="attestation key and issuer",
                seen=f"{len(evidence.endorsements)} certificates",
            )
        certificate = load_certificate(evidence.endorsements[0], "attestation key")
        issuer = load_certificate(evidence.endorsements[1], "issuer")
        key = public_key_of(certificate, "attestation key")
        issuer_key = public_key_of(issuer, "issuer")
    except FormatError as error:
        return Verdict((_failed("evidence", error.expected or "well-formed evidence", str(error)),))
    spki = issuer_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signed = quote_signature_is_valid(key, report.quote, signature)
    checks = [
        Check("evidence", "well-formed vTPM evidence", "well-formed", True, _FORMAT),
        check_equal("issuer", development_ca, hashlib.sha256(spki).digest(), _MANIFEST),
        _check_issuer(issuer),
        _check_validity("issuer validity", issuer, now),
        _check_certificate(certificate, issuer),
        _check_validity("attestation key validity", certificate, now),
        Check(
            "quote signature",
            "valid, by the attestation key",
            "valid" if signed else "not valid",
            signed,
            "attestation key certificate",
        ),
        check_equal("quote binding", report_data[:TPM_EXTRA_DATA_SIZE], quote.extra_data, _NONCE),
        check_equal("quoted registers", _numbers(report.pcrs), _numbers(quote.pcrs), _FORMAT),
        check_equal(
            "quoted values", pcr_digest(report.pcrs).hex(), quote.pcr_digest.hex(), _FORMAT
        ),
    ]
    checks += _check_references(report.pcrs, references)
    checks.append(_check_event_log(evidence.event_log, report.pcrs, references))
    return Verdict(tuple(checks))


def quote_signature_is_valid(
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    quote: bytes,
    signature: EcdsaSignature | RsassaSignature,
) -> bool:
    """Whether `signature`, ECDSA or RSASSA with SHA-256 as the key's kind asks, is over `quote`."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(signature, EcdsaSignature):
            der = encode_dss_signature(signature.r, signature.s)
            key.verify(der, quote, ec.ECDSA(hashes.SHA256()))
            return True
        if isinstance(key, rsa.RSAPublicKey) and isinstance(signature, RsassaSignature):
            key.verify(signature.value, quote, padding.PKCS1v15(), hashes.SHA256())
            return key.key_size >= MIN_RSA_BITS
    except InvalidSignature:
        return False
    return False


def closest_reference(
    pcrs: Mapping[int, bytes], references: Sequence[VtpmReference]
) -> VtpmReference:
    """The reference with the fewest registers that differ; the first of equals."""
    return min(references, key=lambda reference: len(_differing(pcrs, reference)))


def _check_references(
    pcrs: Mapping[int, bytes], references: Sequence[VtpmReference]
) -> list[Check]:
    open_shapes = [r.shape for r in references if not r.pcrs.keys() >= set(REQUIRED_PCRS)]
    if open_shapes or not references:
        seen = f"not so: {open_shapes!a}" if open_shapes else "no shape"
        expected = f"shapes that each pin PCR {_numbers(REQUIRED_PCRS)}"
        return [_failed("boot registers", expected, seen, _MANIFEST)]
    reference = closest_reference(pcrs, references)
    return [
        Check(
            f"PCR {number} ({PCR_COVERS.get(number, 'not used')})",
            value.hex(),
            pcrs[number].hex() if number in pcrs else "not quoted",
            pcrs.get(number) == value,
            f"{_MANIFEST}, shape {reference.shape}",
        )
        for number, value in sorted(reference.pcrs.items())
    ]


def _differing(pcrs: Mapping[int, bytes], reference: VtpmReference) -> list[int]:
    return [number for number, value in reference.pcrs.items() if pcrs.get(number) != value]


def _check_event_log(
    log: bytes, pcrs: Mapping[int, bytes], references: Sequence[VtpmReference]
) -> Check:
    """Registers that no reference pins may go on changing after boot: their log need not agree."""
    expected = "replays to the quoted registers"
    try:
        parsed = eventlog.parse(log)
        replayed = parsed.replay()
    except MeasureError as error:
        return _failed("event log", expected, str(error), "quote")
    pinned = {number for reference in references for number in reference.pcrs}
    wrong = [
        number
        for number in sorted(pinned & set(pcrs))
        if pcrs[number] != replayed.get(number, eventlog.initial_value(number))
    ]
    seen = f"other values for PCR {_numbers(wrong)}" if wrong else expected
    return Check("event log", expected, seen, not wrong, "quote")


def _check_issuer(issuer: x509.Certificate) -> Check:
    """The issuer may sign certificates, and signed its own."""
    constraints = _extension(issuer, x509.BasicConstraints)
    usage = _extension(issuer, x509.KeyUsage)
    is_ca = constraints is not None and constraints.ca and usage is not None
    passed = bool(is_ca and usage and usage.key_cert_sign and _is_signed_by(issuer, issuer))
    return Check(
        "issuer certificate",
        "a self-signed CA certificate",
        _subject(issuer) if passed else f"not one: {_subject(issuer)}",
        passed,
        _FORMAT,
    )


def _check_certificate(certificate: x509.Certificate, issuer: x509.Certificate) -> Check:
    """The issuer says of this key that it is an attestation key, and of none that it is a CA."""
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    constraints = _extension(certificate, x509.BasicConstraints)
    is_ak = usage is not None and [oid.dotted_string for oid in usage] == [AK_USAGE_OID]
    is_leaf = constraints is not None and not constraints.ca
    passed = is_ak and is_leaf and _is_signed_by(certificate, issuer)
    return Check(
        "attestation key certificate",
        "signed by the issuer, for a TPM attestation key",
        _subject(certificate) if passed else f"not so: {_subject(certificate)}",
        passed,
        "issuer",
    )


def _check_validity(name: str, certificate: x509.Certificate, now: int) -> Check:
    start = certificate.not_valid_before_utc
    end = certificate.not_valid_after_utc
    passed = start.timestamp() <= now <= end.timestamp()
    return Check(
        name,
        f"a time from {start:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S} UTC",
        _utc(now),
        passed,
        "certificate",
    )


def _is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _subject(certificate: x509.Certificate) -> str:
    return ascii(certificate.subject.rfc4514_string())[1:-1][:200]


def _numbers(pcrs: Iterable[int]) -> str:
    return " ".join(map(str, sorted(pcrs)))


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _failed(name: str, expected: str, seen: str, source: str = _FORMAT) -> Check:
    return Check(name, expected, seen, False, source)
