"""What the certificates of every vendor need: names, times, signatures, revocation lists.

Nothing here decides whom to trust: the platform's verifier says which root, which signature
algorithm and which extensions it wants. `confide.verify.chain` walks whole chains.

Source: RFC 5280, 4.1.2.5 (validity), 4.2.1.3 and 4.2.1.9 (who may sign), 5 and 6.3 (revocation).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

from confide.encoding.x509 import UNREADABLE
from confide.errors import FormatError
from confide.verify.verdict import Check

SHA384 = hashes.SHA384()
PSS_SHA384 = padding.PSS(padding.MGF1(SHA384), SHA384.digest_size)
MAX_CRL = 1 << 20  # bytes; AMD's has a few hundred, Intel's some thousand

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
# A critical extension says so by a BOOLEAN that is true: without these bytes, none is (X.690, 8.2).
_CRITICAL = b"\x01\x01\xff"
_KNOWN_CRL_EXTENSIONS = (ExtensionOID.CRL_NUMBER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER)


def spki_sha256(certificate: x509.Certificate) -> bytes:
    """SHA-256 (32 bytes) of the certificate's SubjectPublicKeyInfo in DER: what a root is known by.

    The key must be one that could be read (see `encoding.x509.load_certificate`).
    """
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


def subject(certificate: x509.Certificate) -> str:
    """The subject for a verdict: at most 200 characters of printable ASCII."""
    return ascii(certificate.subject.rfc4514_string())[1:-1][:200]


def short_name(certificate: x509.Certificate) -> str:
    """The common name for a verdict, at most 80 characters of printable ASCII.

    The whole subject where there is not exactly one common name.
    """
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return ascii(names[0].value)[1:-1][:80] if len(names) == 1 else subject(certificate)


def extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    """The certificate's extension of this kind, None if it has none."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def is_ca(certificate: x509.Certificate, *, below: int = 0) -> bool:
    """Whether the certificate says that its key may sign certificates.

    `below` is how many CA certificates stand between it and the chain's leaf.
    """
    constraints = extension(certificate, x509.BasicConstraints)
    usage = extension(certificate, x509.KeyUsage)
    if not (constraints and constraints.ca and usage and usage.key_cert_sign):
        return False
    return constraints.path_length is None or below <= constraints.path_length


def unknown_critical(
    certificate: x509.Certificate, *known: x509.ObjectIdentifier
) -> x509.ObjectIdentifier | None:
    """A critical extension that is neither about who may sign nor among the `known`; None if none.

    It could restrict the certificate in a way that is not checked here (RFC 5280, 4.2).
    """
    known = (ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, *known)
    unknown = (e.oid for e in certificate.extensions if e.critical and e.oid not in known)
    return next(unknown, None)


def is_signed_by(
    certificate: x509.Certificate, issuer: x509.Certificate, algorithm: x509.ObjectIdentifier
) -> bool:
    """Whether `issuer` is named as the issuer and its key made the signature, by `algorithm`.

    RSASSA-PSS is taken with SHA-384, MGF1 with SHA-384 and 48 bytes of salt only.
    """
    if certificate.signature_algorithm_oid != algorithm:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
        if algorithm == SignatureAlgorithmOID.RSASSA_PSS:
            # That was with the hash and salt which the certificate asks for: again with ours.
            key = issuer.public_key()
            if not isinstance(key, rsa.RSAPublicKey):
                return False
            key.verify(certificate.signature, certificate.tbs_certificate_bytes, PSS_SHA384, SHA384)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def check_validity(name: str, certificate: x509.Certificate, now: int) -> Check:
    """Passes if `now` (unix seconds) is within the certificate's time, both ends included."""
    start = certificate.not_valid_before_utc
    end = certificate.not_valid_after_utc
    passed = start.timestamp() <= now <= end.timestamp()
    return Check(
        name, f"a time from {_time(start)} to {_time(end)}", utc(now), passed, "certificate"
    )


def utc(seconds: float) -> str:
    """Unix seconds as text, to the second; the number itself if no calendar has it."""
    try:
        return _time(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def load_crl(der: bytes, what: str) -> x509.CertificateRevocationList:
    """One DER revocation list of at most 1 MiB, encoded canonically. Raises FormatError.

    A critical extension that is not understood makes it unreadable (RFC 5280, 5.2): it could say
    that the list covers only some certificates.
    """
    if len(der) > MAX_CRL:
        raise _bad_crl(what, f"at most {MAX_CRL} bytes", f"{len(der)} bytes")
    try:
        crl = x509.load_der_x509_crl(der)
        unknown = [e for e in crl.extensions if e.critical and e.oid not in _KNOWN_CRL_EXTENSIONS]
        for entry in crl if _CRITICAL in der else ():
            unknown += [
                e for e in entry.extensions if e.critical and e.oid != x509.CertificateIssuer.oid
            ]
        # The parser keeps the signature's count of unused bits, which nothing signs: it must be 0.
        same = crl.public_bytes(Encoding.DER) == der and der.endswith(b"\0" + crl.signature)
        _ = (crl.issuer, crl.last_update_utc, crl.next_update_utc, crl.signature_hash_algorithm)
    except UNREADABLE as error:
        raise _bad_crl(what, "one DER revocation list", "something else") from error
    if not same:
        raise _bad_crl(what, "canonical DER", "another encoding")
    if unknown:
        raise _bad_crl(what, "extensions that are known", unknown[0].oid.dotted_string)
    return crl


def check_crl(
    name: str,
    crl: x509.CertificateRevocationList,
    issuer: x509.Certificate,
    algorithm: x509.ObjectIdentifier,
    now: int,
) -> Check:
    """Passes if `issuer` signed the list, by `algorithm`, and may, and `now` is in the list's time.

    That time is from thisUpdate to nextUpdate, both included; a list without nextUpdate fails.
    """
    expected = f"signed by {subject(issuer)}, current"
    start, end = crl.last_update_utc, crl.next_update_utc
    usage = extension(issuer, x509.KeyUsage)
    try:
        signed = (
            crl.issuer == issuer.subject
            and crl.signature_algorithm_oid == algorithm
            and usage is not None
            and usage.crl_sign
            and crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
        )
    except (UnsupportedAlgorithm, ValueError, TypeError):
        signed = False
    if not signed:
        return Check(name, expected, "not signed by it", False, "issuer")
    if end is None:
        return Check(
            name, expected, "a list that does not say when it expires", False, "revocation list"
        )
    passed = start.timestamp() <= now <= end.timestamp()
    expected += f", a time from {_time(start)} to {_time(end)}"
    return Check(name, expected, utc(now), passed, "revocation list")


def check_revocation(
    names: tuple[str, str],
    crl: x509.CertificateRevocationList,
    issuer: x509.Certificate,
    algorithm: x509.ObjectIdentifier,
    certificates: Sequence[x509.Certificate],
    now: int,
) -> list[Check]:
    """That the list is its issuer's and current, and that it names none of the certificates.

    Args:
        names: what the check of the list is called, and that of the certificates.
        crl: the list, as `load_crl` gives it.
        issuer: the CA that must have signed it.
        algorithm: the signature algorithm that is accepted.
        certificates: what to look for.
        now: unix seconds.
    """
    listed = check_crl(names[0], crl, issuer, algorithm, now)
    if not listed.passed:
        return [listed]  # nothing that the list says counts
    revoked = [
        f"{short_name(certificate)} (serial number {certificate.serial_number:x})"
        for certificate in certificates
        if is_revoked(crl, certificate)
    ]
    seen = f"revoked: {', '.join(revoked)}" if revoked else "not revoked"
    return [listed, Check(names[1], "not revoked", seen, not revoked, "revocation list")]


def is_revoked(crl: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    """Whether the list, which `check_crl` has passed, names this certificate.

    An entry is about a certificate of the list's own issuer, unless it (or one before it) names
    another (RFC 5280, 5.3.3): serial numbers are unique only within one issuer.
    """
    if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is None:
        return False
    issuer = crl.issuer
    for entry in crl:
        try:
            names = entry.extensions.get_extension_for_class(x509.CertificateIssuer).value
            directory = names.get_values_for_type(x509.DirectoryName)
            issuer = directory[0] if directory else issuer
        except x509.ExtensionNotFound:
            pass
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            return True  # an entry of this list that cannot be read may be about it
        if entry.serial_number == certificate.serial_number and issuer == certificate.issuer:
            return True
    return False


def _time(moment: datetime) -> str:
    return f"{moment.replace(microsecond=0, tzinfo=None)} UTC"


def _bad_crl(what: str, expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-crl", f"the {what} revocation list cannot be read", expected=expected, seen=seen
    )
