"""One DER certificate, strictly: bounded, readable in every part, and encoded in one way only."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from confide.errors import FormatError

MAX_DER = 16384
"""Bytes of one certificate."""

# What the parser raises for bytes that are not a certificate, and for a key of an unknown kind.
UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def load_certificate(der: bytes, what: str) -> x509.Certificate:
    """One DER certificate of at most 16 KiB, encoded canonically. Raises FormatError."""
    if len(der) > MAX_DER:
        raise FormatError(
            "bad-certificate",
            f"the {what} certificate is too large",
            expected=f"at most {MAX_DER} bytes",
            seen=f"{len(der)} bytes",
        )
    try:
        certificate = x509.load_der_x509_certificate(der)
        # The parser reads these on first use: a malformed one raises here.
        _ = (certificate.extensions, certificate.subject, certificate.issuer)
        _ = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
        certificate.public_key()
        # The parser keeps the signature's count of unused bits, which nothing signs: it must be 0.
        same = certificate.public_bytes(Encoding.DER) == der and der.endswith(
            b"\0" + certificate.signature
        )
    except UNREADABLE as error:
        raise FormatError(
            "bad-certificate",
            f"the {what} certificate cannot be read",
            expected="one DER X.509 certificate",
        ) from error
    if not same:
        raise FormatError("bad-certificate", f"the {what} certificate is not canonical DER")
    return certificate
