"""Verifying mesh certificates: leaf, signed by the mesh CA, signed by the root CA.

The root CA's DER is what the caller trusts already (an attested coordinator bound it). Everything
else is checked at an explicit time: signatures, validity, constraints, key usage, the exact role.
An extension outside the profile is refused, critical or not: the profile is closed.
"""

from __future__ import annotations

from collections.abc import Collection

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, SignatureAlgorithmOID

from confide.errors import VerificationError
from confide.formats.certificates import (
    KEM_KEY_OID,
    MANIFEST_OID,
    MeshIdentity,
    extension_digest,
    load_certificate,
    parse_leaf,
    public_key_of,
)

_COMMON = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    }
)
_LEAF = _COMMON | {
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.EXTENDED_KEY_USAGE,
    KEM_KEY_OID,
}
_MESH = _COMMON | {MANIFEST_OID}


def verify_leaf(
    leaf_der: bytes,
    mesh_ca_der: bytes,
    root_ca_der: bytes,
    *,
    role: str | Collection[str],
    now: int,
) -> MeshIdentity:
    """Verify the chain at `now` (unix seconds) and that the leaf's role is `role`.

    `role` is one role, or a collection of roles of which any one will do. Raises VerificationError
    if a check fails and FormatError if a certificate cannot be read.
    """
    _, mesh = _verify_authorities(mesh_ca_der, root_ca_der, now)
    leaf = load_certificate(leaf_der, "leaf")
    _check_profile(leaf, "leaf", _LEAF, path_length=None)
    _check_issued(leaf, mesh, "leaf", "mesh CA")
    _check_time(leaf, "leaf", now)
    identity = parse_leaf(leaf)
    roles = (role,) if isinstance(role, str) else tuple(role)
    if identity.role not in roles:
        raise VerificationError(
            "wrong-role",
            "the peer's certificate names another role",
            expected=" or ".join(roles),
            seen=identity.role,
        )
    return identity


def verify_mesh_ca(
    mesh_ca_der: bytes, root_ca_der: bytes, *, manifest_sha256: bytes, now: int
) -> None:
    """Verify that the root CA made this mesh CA for exactly this manifest. Raises as above."""
    _, mesh = _verify_authorities(mesh_ca_der, root_ca_der, now)
    seen = extension_digest(mesh, MANIFEST_OID)
    if seen is None or seen != manifest_sha256:
        raise VerificationError(
            "wrong-manifest",
            "the mesh CA was made for another manifest",
            expected=manifest_sha256.hex(),
            seen=seen.hex() if seen else "none",
        )


def verify_root_ca(root_ca_der: bytes, *, now: int) -> None:
    """Verify that this is a root CA of the profile, valid at `now`. Raises as above."""
    _verify_root(root_ca_der, now)


def _verify_root(root_ca_der: bytes, now: int) -> x509.Certificate:
    root = load_certificate(root_ca_der, "root CA")
    _check_profile(root, "root CA", _COMMON, path_length=1)
    _check_issued(root, root, "root CA", "root CA")
    _check_time(root, "root CA", now)
    return root


def _verify_authorities(
    mesh_ca_der: bytes, root_ca_der: bytes, now: int
) -> tuple[x509.Certificate, x509.Certificate]:
    root = _verify_root(root_ca_der, now)
    mesh = load_certificate(mesh_ca_der, "mesh CA")
    _check_profile(mesh, "mesh CA", _MESH, path_length=0)
    _check_issued(mesh, root, "mesh CA", "root CA")
    _check_time(mesh, "mesh CA", now)
    return root, mesh


def _check_profile(
    certificate: x509.Certificate,
    what: str,
    allowed: Collection[x509.ObjectIdentifier],
    *,
    path_length: int | None,
) -> None:
    if certificate.version is not x509.Version.v3:
        raise _profile_error(what, "X.509 version 3", certificate.version.name)
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise _profile_error(
            what, "ECDSA with SHA-256", certificate.signature_algorithm_oid.dotted_string
        )
    public_key_of(certificate, what)
    extensions = certificate.extensions
    for extension in extensions:
        if extension.oid not in allowed:
            raise _profile_error(what, "no other extensions", extension.oid.dotted_string)
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints)
        usage = extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound as error:
        raise _profile_error(what, "basic constraints and key usage", "none") from error
    is_ca = path_length is not None
    if constraints.value != x509.BasicConstraints(ca=is_ca, path_length=path_length):
        raise _profile_error(
            what,
            f"ca={is_ca}, path length {path_length}",
            f"ca={constraints.value.ca}, path length {constraints.value.path_length}",
        )
    wanted = _usage(is_ca)
    if usage.value != wanted or not usage.critical or not constraints.critical:
        raise _profile_error(what, "the profile's critical key usage", "another key usage")
    if not is_ca:
        _check_extended_usage(extensions, what)


def _check_extended_usage(extensions: x509.Extensions, what: str) -> None:
    wanted = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    try:
        seen = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound as error:
        raise _profile_error(what, "an extended key usage", "none") from error
    if seen != wanted:
        raise _profile_error(what, "TLS server and client", "another extended key usage")


def _usage(is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _check_issued(
    certificate: x509.Certificate, issuer: x509.Certificate, what: str, issuer_what: str
) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise VerificationError(
            "bad-chain", f"the {what} certificate was not signed by the {issuer_what}"
        ) from error


def _check_time(certificate: x509.Certificate, what: str, now: int) -> None:
    start = int(certificate.not_valid_before_utc.timestamp())
    end = int(certificate.not_valid_after_utc.timestamp())
    if not start <= now <= end:
        raise VerificationError(
            "not-valid-now",
            f"the {what} certificate is not valid at this time",
            expected=f"unix time {start} to {end}",
            seen=str(now),
            next="check this machine's clock; a node must join again before its hour ends",
        )


def _profile_error(what: str, expected: str, seen: str) -> VerificationError:
    return VerificationError(
        "bad-profile",
        f"the {what} certificate is not of the mesh profile",
        expected=expected,
        seen=seen,
    )
