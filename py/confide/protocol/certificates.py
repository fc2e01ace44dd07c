"""The mesh certificate profile: X.509 v3, P-256, ECDSA with SHA-256, and what a leaf says.

Root CA (path length 1) signs the mesh CA (path length 0, carries the manifest's hash), which signs
leaves of one hour. What is ours stands in the subject alternative name: URIs, and in a leaf one DNS
name made of its role. So any program can read all of it, and its ordinary check of a host name
checks the role.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from confide.encoding.texts import check_name, from_hex
from confide.encoding.x509 import UNREADABLE
from confide.errors import FormatError
from confide.protocol.validity import CLOCK_TOLERANCE

MANIFEST_PREFIX = "confide:manifest:"
ROLE_PREFIX = "confide:role:"
KEM_KEY_PREFIX = "confide:kem-key:"
MODEL_PREFIX = "confide:model:"
DOMAIN = "confide.internal"
"""Of every leaf's DNS name. No name server has it: `.internal` is reserved for private use."""

ROOT_LIFETIME = 10 * 365 * 86400
LEAF_LIFETIME = 3600
BACKDATE = CLOCK_TOLERANCE
"""Clocks differ a little, so a certificate is valid from so many seconds before it was made."""
HASH_SIZE = 32

EXTENDED_KEY_USAGE = x509.ExtendedKeyUsage(
    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
)


def key_usage(*, ca: bool) -> x509.KeyUsage:
    """A CA signs certificates and nothing else; a leaf signs handshakes and receipts."""
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True)
class MeshIdentity:
    """What a leaf certificate says. Only verify/mesh.py checks whether it is true."""

    role: str
    models: tuple[str, ...]
    kem_key_sha256: bytes | None
    public_key: ec.EllipticCurvePublicKey
    not_before: int
    not_after: int

    @property
    def issued(self) -> int:
        """When the coordinator made the leaf, in unix seconds by its clock."""
        return self.not_before + BACKDATE


def public_key_of(certificate: x509.Certificate, what: str) -> ec.EllipticCurvePublicKey:
    """The certificate's P-256 key. Raises FormatError for any other kind of key."""
    try:
        key = certificate.public_key()
    except UNREADABLE as error:
        raise FormatError("bad-key", f"the {what} certificate's key cannot be read") from error
    return _p256(key, what)


def load_public_key(spki: bytes, what: str) -> ec.EllipticCurvePublicKey:
    """A P-256 public key from SPKI DER. Raises FormatError."""
    try:
        key = load_der_public_key(spki)
    except UNREADABLE as error:
        raise FormatError(
            "bad-key", f"the {what} key cannot be read", expected="SPKI DER of a P-256 key"
        ) from error
    return _p256(key, what)


def dns_name(role: str) -> str:
    """The host name that a leaf of this role has, for TLS libraries that check one."""
    return f"{role}.{DOMAIN}"


def mesh_ca_names(manifest_sha256: bytes) -> x509.SubjectAlternativeName:
    """All names of a mesh CA: the hash of its manifest (32 bytes)."""
    return _names(MANIFEST_PREFIX + manifest_sha256.hex())


def leaf_names(
    role: str, models: Sequence[str], kem_key_sha256: bytes | None
) -> x509.SubjectAlternativeName:
    """All names of a leaf, in their order; without a KEM key, `kem_key_sha256` is None."""
    kem_key = [KEM_KEY_PREFIX + kem_key_sha256.hex()] if kem_key_sha256 else []
    uris = [ROLE_PREFIX + role, *kem_key, *(MODEL_PREFIX + model for model in models)]
    return _names(*uris, dns=dns_name(role))


def parse_mesh_ca(certificate: x509.Certificate) -> bytes:
    """The SHA-256 of the manifest that a mesh CA is for. Raises FormatError if it is malformed."""
    names = _alternative_names(certificate)
    manifest_sha256 = from_hex(
        _the_one(names, MANIFEST_PREFIX), HASH_SIZE, "the manifest's hash in the certificate"
    )
    _require_names(names, mesh_ca_names(manifest_sha256))
    return manifest_sha256


def parse_leaf(certificate: x509.Certificate) -> MeshIdentity:
    """Read a leaf's role, models and KEM key hash. Raises FormatError if it is malformed."""
    names = _alternative_names(certificate)
    role = check_name(_the_one(names, ROLE_PREFIX), "the certificate's role")
    models = [
        check_name(model, "a model of the certificate") for model in _all(names, MODEL_PREFIX)
    ]
    kem_keys = [
        from_hex(text, HASH_SIZE, "the KEM key's hash in the certificate")
        for text in _all(names, KEM_KEY_PREFIX)
    ]
    kem_key_sha256 = kem_keys[0] if kem_keys else None
    if len(set(models)) != len(models):
        raise FormatError("bad-certificate", "the certificate names a model twice")
    _require_names(names, leaf_names(role, models, kem_key_sha256))
    return MeshIdentity(
        role=role,
        models=tuple(models),
        kem_key_sha256=kem_key_sha256,
        public_key=public_key_of(certificate, "leaf"),
        not_before=int(certificate.not_valid_before_utc.timestamp()),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
    )


def _names(*uris: str, dns: str = "") -> x509.SubjectAlternativeName:
    hosts = [x509.DNSName(dns)] if dns else []
    return x509.SubjectAlternativeName(
        [*hosts, *(x509.UniformResourceIdentifier(uri) for uri in uris)]
    )


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise FormatError("bad-certificate", "the certificate has no names") from error


def _all(names: x509.SubjectAlternativeName, prefix: str) -> list[str]:
    """What follows the prefix in each URI that has it."""
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return [uri[len(prefix) :] for uri in uris if uri.startswith(prefix)]


def _the_one(names: x509.SubjectAlternativeName, prefix: str) -> str:
    found = _all(names, prefix)
    if len(found) != 1:
        raise FormatError(
            "bad-certificate",
            "the certificate lacks a name, or has it twice",
            expected=f"one URI {prefix}...",
            seen=str(len(found)),
        )
    return found[0]


def _require_names(
    names: x509.SubjectAlternativeName, expected: x509.SubjectAlternativeName
) -> None:
    """No other name may be there, nor another order: each identity has exactly one spelling."""
    if names != expected:
        raise FormatError(
            "bad-certificate",
            "the certificate's names are not those of the mesh profile",
            expected=_listed(expected),
            seen=_listed(names),
        )


def _listed(names: x509.SubjectAlternativeName) -> str:
    return ascii(" ".join(str(name.value) for name in names))[:400]


def _p256(key: object, what: str) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FormatError(
            "bad-key",
            f"the {what} key has the wrong type",
            expected="P-256",
            seen=type(key).__name__,
        )
    return key
