"""A certificate made again with something changed, and properly signed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

Extensions = dict[x509.ObjectIdentifier, tuple[x509.ExtensionType, bool]]


def remake(
    der: bytes,
    signer: ec.EllipticCurvePrivateKey,
    change: Callable[[Extensions], None] = lambda extensions: None,
    *,
    public_key: CertificatePublicKeyTypes | None = None,
    issuer: str = "",
    start: int = 0,
    end: int = 0,
    algorithm: hashes.SHA256 | hashes.SHA384 | None = None,
) -> bytes:
    """The certificate again, with something changed, signed by the right or the wrong key."""
    old = x509.load_der_x509_certificate(der)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]) if issuer else old.issuer
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=old.subject,
        public_key=public_key or old.public_key(),
        serial_number=old.serial_number,
        not_valid_before=datetime.fromtimestamp(start, UTC) if start else old.not_valid_before_utc,
        not_valid_after=datetime.fromtimestamp(end, UTC) if end else old.not_valid_after_utc,
    )
    extensions: Extensions = {e.oid: (e.value, e.critical) for e in old.extensions}
    change(extensions)
    for value, critical in extensions.values():
        builder = builder.add_extension(value, critical)
    return builder.sign(signer, algorithm or hashes.SHA256()).public_bytes(Encoding.DER)


def put(value: x509.ExtensionType, critical: bool = False) -> Callable[[Extensions], None]:
    return lambda extensions: extensions.update({value.oid: (value, critical)})


def drop(oid: x509.ObjectIdentifier) -> Callable[[Extensions], None]:
    return lambda extensions: extensions.pop(oid) and None


def named(*names: str) -> Callable[[Extensions], None]:
    """Exactly these names, in this order: URIs, and after "DNS:" a DNS name."""
    return put(
        x509.SubjectAlternativeName(
            [
                x509.DNSName(name.removeprefix("DNS:"))
                if name.startswith("DNS:")
                else x509.UniformResourceIdentifier(name)
                for name in names
            ]
        )
    )
