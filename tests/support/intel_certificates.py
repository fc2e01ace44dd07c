"""Certificates and revocation lists as Intel issues them, by keys that are made here.

The names are Intel's (the verifier asks for them), and the organisation says that it is simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

NOW = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp())
SGX_OID = "1.2.840.113741.1.13.1"
FMSPC = bytes.fromhex("90c06f000000")
SVNS = [3, 3, 2, 2, 4, 1, 0, 5] + [0] * 8
INSTANCE = b"\x66" * 16
SHA256 = hashes.SHA256()


@dataclass(frozen=True)
class Signer:
    """A key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def sign(self, data: bytes) -> bytes:
        return sign(self.key, data)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """ECDSA with SHA-256 as r ‖ s."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256)))
    return r.to_bytes(32) + s.to_bytes(32)


def issue(
    name: str,
    issuer: Signer | None,
    *,
    ca: bool = False,
    extensions: Sequence[x509.ExtensionType] = (),
    critical: bool = False,
    not_after: datetime | None = None,
    key: ec.EllipticCurvePrivateKey | None = None,
    algorithm: hashes.SHA256 | hashes.SHA384 = SHA256,
) -> Signer:
    """A certificate in Intel's profile; without an issuer it signs itself."""
    key = key or new_key()
    subject = _name(name)
    usage = x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=not ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
    now = datetime.fromtimestamp(NOW, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=365))
        .not_valid_after(not_after or now + timedelta(days=365))
        .add_extension(usage, critical=True)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return Signer(key, builder.sign(issuer.key if issuer else key, algorithm))


def revocation_list(
    issuer: Signer,
    *revoked: x509.Certificate,
    next_update: datetime | None = None,
    change: Callable[
        [x509.CertificateRevocationListBuilder], x509.CertificateRevocationListBuilder
    ] = lambda builder: builder,
) -> bytes:
    """A list of one month that names these certificates."""
    now = datetime.fromtimestamp(NOW, UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - timedelta(days=10))
        .next_update(next_update or now + timedelta(days=20))
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    for certificate in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(certificate.serial_number)
            .revocation_date(now - timedelta(days=11))
            .add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
            .build()
        )
    return change(builder).sign(issuer.key, SHA256).public_bytes(Encoding.DER)


def pck_extension(
    svns: Sequence[int] = SVNS,
    pce: int = 13,
    *,
    fmspc: bytes = FMSPC,
    pce_id: bytes = bytes(2),
    instance: bytes = INSTANCE,
) -> bytes:
    """Intel's SGX extension, in DER."""
    numbers = [_der(0x02, _integer(svn)) for svn in [*svns, pce]]
    tcb = [*numbers, _der(0x04, bytes(svns))]
    items = {
        1: _der(0x04, bytes(16)),
        2: _sequence(*(_item(f"2.{n}", value) for n, value in enumerate(tcb, 1))),
        3: _der(0x04, pce_id),
        4: _der(0x04, fmspc),
        5: _der(0x0A, b"\x01"),
    }
    if instance:
        items[6] = _der(0x04, instance)
        # Dynamic platform, cached keys and SMT: all true, as on most servers.
        items[7] = _sequence(*(_item(f"7.{n}", _der(0x01, b"\xff")) for n in (1, 2, 3)))
    return _sequence(*(_item(str(number), value) for number, value in items.items()))


def _item(suffix: str, value: bytes) -> bytes:
    # The prefix 1.2.840.113741.1.13.1; each further arc is small enough for one byte.
    oid = bytes.fromhex("2a864886f84d010d01") + bytes(map(int, suffix.split(".")))
    return _sequence(_der(0x06, oid), value)


def _sequence(*items: bytes) -> bytes:
    return _der(0x30, b"".join(items))


def _integer(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1)


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2)
    if 128 <= size < 256:
        length = b"\x81" + bytes([size])
    return bytes([tag]) + length + content


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Simulated, not Intel"),
        ]
    )
