"""The mesh certificate profile: X.509 v3, P-256, ECDSA with SHA-256, and what a leaf says.

Root CA (path length 1) signs the mesh CA (path length 0, carries the manifest's hash), which signs
leaves of one hour. A leaf names its role and models as URIs in the subject alternative name.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from confide.encoding.texts import check_name
from confide.encoding.x509 import UNREADABLE
from confide.errors import FormatError
from confide.protocol.validity import CLOCK_TOLERANCE

# Arcs under 2.25 are UUIDs (ITU-T X.667): unique without asking a registry.
KEM_KEY_OID = x509.ObjectIdentifier("2.25.174267239364210870136312783361262829361")
MANIFEST_OID = x509.ObjectIdentifier("2.25.305186723415021871210987312837465928374")

ROLE_PREFIX = "confide:role:"
MODEL_PREFIX = "confide:model:"

ROOT_LIFETIME = 10 * 365 * 86400
LEAF_LIFETIME = 3600
BACKDATE = CLOCK_TOLERANCE
"""Clocks differ a little, so a certificate is valid from so many seconds before it was made."""
DIGEST_SIZE = 32


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


def parse_leaf(certificate: x509.Certificate) -> MeshIdentity:
    """Read a leaf's role, models and KEM key hash. Raises FormatError if it is malformed."""
    role = ""
    models = []
    for uri in _uris(certificate):
        if uri.startswith(ROLE_PREFIX) and not role:
            role = check_name(uri[len(ROLE_PREFIX) :], "the certificate's role")
        elif uri.startswith(MODEL_PREFIX):
            models.append(check_name(uri[len(MODEL_PREFIX) :], "a model of the certificate"))
        else:
            raise FormatError(
                "bad-certificate",
                "the certificate has an unknown URI",
                expected="one role and any number of models",
                seen=ascii(uri[:80]),
            )
    if not role or len(set(models)) != len(models):
        raise FormatError(
            "bad-certificate", "the certificate does not name one role and its models"
        )
    return MeshIdentity(
        role=role,
        models=tuple(models),
        kem_key_sha256=extension_digest(certificate, KEM_KEY_OID),
        public_key=public_key_of(certificate, "leaf"),
        not_before=int(certificate.not_valid_before_utc.timestamp()),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
    )


def extension_digest(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes | None:
    """The 32 raw bytes of one of our own extensions, None if absent. Raises FormatError."""
    try:
        value = certificate.extensions.get_extension_for_oid(oid).value
    except x509.ExtensionNotFound:
        return None
    if not isinstance(value, x509.UnrecognizedExtension) or len(value.value) != DIGEST_SIZE:
        raise FormatError(
            "bad-certificate",
            "the certificate's digest extension is wrong",
            expected=f"{DIGEST_SIZE} raw bytes",
        )
    return value.value


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise FormatError("bad-certificate", "the certificate names no role") from error
    uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    if len(uris) != len(list(names)):
        raise FormatError("bad-certificate", "the certificate has a name that is not a URI")
    return uris


def _p256(key: object, what: str) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FormatError(
            "bad-key",
            f"the {what} key has the wrong type",
            expected="P-256",
            seen=type(key).__name__,
        )
    return key
