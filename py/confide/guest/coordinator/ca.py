"""The coordinator's certificate authorities. Private keys live in RAM only and are never written.

`now` is unix seconds. The profile is in confide.protocol.certificates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from confide.protocol import certificates as profile


@dataclass(frozen=True)
class Authority:
    """A CA: its private key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate as DER."""
        return self.certificate.public_bytes(Encoding.DER)


def create_root_ca(*, now: int) -> Authority:
    """A new self-signed root CA for ten years, path length 1."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder("Confide root CA", key.public_key(), now, now + profile.ROOT_LIFETIME)
    builder = _as_ca(builder, path_length=1)
    return Authority(key, _sign(builder, _name("Confide root CA"), key))


def create_mesh_ca(root: Authority, *, manifest_sha256: bytes, now: int) -> Authority:
    """A new mesh CA under `root`, path length 0, with the manifest's SHA-256."""
    key = ec.generate_private_key(ec.SECP256R1())
    end = int(root.certificate.not_valid_after_utc.timestamp())
    builder = _builder("Confide mesh CA", key.public_key(), now, end)
    builder = _as_ca(builder, path_length=0).add_extension(
        profile.mesh_ca_names(manifest_sha256), critical=False
    )
    return Authority(key, _sign(builder, root.certificate.subject, root.key))


def issue_leaf(
    mesh: Authority,
    *,
    role: str,
    models: Sequence[str],
    public_key: bytes,
    kem_public_key: bytes,
    now: int,
) -> bytes:
    """A leaf of one hour as DER. The caller has attested the node: this checks the form only.

    `public_key` is SPKI DER of a P-256 key; `kem_public_key` is empty if the node has none. Raises
    FormatError for a bad key.
    """
    node_key = profile.load_public_key(public_key, "node")
    kem_key_sha256 = sha256(kem_public_key).digest() if kem_public_key else None
    builder = _builder(role, node_key, now, now + profile.LEAF_LIFETIME)
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(profile.key_usage(ca=False), critical=True)
        .add_extension(profile.EXTENDED_KEY_USAGE, critical=False)
        .add_extension(profile.leaf_names(role, models, kem_key_sha256), critical=False)
    )
    return _sign(builder, mesh.certificate.subject, mesh.key).public_bytes(Encoding.DER)


def _builder(
    name: str, key: ec.EllipticCurvePublicKey, now: int, end: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(now - profile.BACKDATE, UTC))
        .not_valid_after(datetime.fromtimestamp(end, UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _as_ca(builder: x509.CertificateBuilder, *, path_length: int) -> x509.CertificateBuilder:
    return builder.add_extension(
        x509.BasicConstraints(ca=True, path_length=path_length), critical=True
    ).add_extension(profile.key_usage(ca=True), critical=True)


def _sign(
    builder: x509.CertificateBuilder, issuer: x509.Name, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = builder.issuer_name(issuer).add_extension(authority, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
