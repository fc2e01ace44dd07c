"""Verifying mesh certificates: leaf, signed by the mesh CA, signed by the root CA.

The root CA's DER is what the caller trusts already (an attested coordinator bound it). Everything
else is checked at an explicit time: signatures, validity, constraints, key usage, the exact role.
An extension outside the profile is refused, critical or not: the profile is closed. It is our own,
so certificates are compared with it field by field; `verify.chain` walks the chains of vendors.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtensionOID, SignatureAlgorithmOID

from confide.encoding.x509 import load_certificate
from confide.errors import VerificationError
from confide.protocol.certificates import (
    EXTENDED_KEY_USAGE,
    LEAF_LIFETIME,
    MeshIdentity,
    key_usage,
    parse_leaf,
    parse_mesh_ca,
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


@dataclass(frozen=True)
class _Profile:
    """One kind of certificate: its path length (None: no CA), and exactly its extensions."""

    what: str
    path_length: int | None
    extensions: frozenset[x509.ObjectIdentifier]


_ROOT = _Profile("root CA", 1, _COMMON)
_MESH = _Profile("mesh CA", 0, _COMMON | {ExtensionOID.SUBJECT_ALTERNATIVE_NAME})
_LEAF = _Profile(
    "leaf",
    None,
    _COMMON | {ExtensionOID.SUBJECT_ALTERNATIVE_NAME, ExtensionOID.EXTENDED_KEY_USAGE},
)


def verify_leaf(
    leaf_der: bytes,
    mesh_ca_der: bytes,
    root_ca_der: bytes,
    *,
    role: str | Collection[str],
    now: int,
) -> MeshIdentity:
    """Verifies a certificate of the mesh, when it was issued, and the chain above it.

    Args:
        leaf_der: the certificate (DER), as are the next two.
        mesh_ca_der: its issuer.
        root_ca_der: that one's issuer, which the caller trusts.
        role: the role that the certificate must name, or several of which one is enough.
        now: unix seconds.

    Raises:
        VerificationError: a check failed.
        FormatError: a certificate cannot be read.
    """
    identity, chain = _load_chain(leaf_der, mesh_ca_der, root_ca_der)
    for issued in chain:
        _require_valid(issued, now)
    _require_recent(identity, now)
    roles = (role,) if isinstance(role, str) else tuple(role)
    if identity.role not in roles:
        raise VerificationError(
            "wrong-role",
            "the peer's certificate names another role",
            expected=" or ".join(roles),
            seen=identity.role,
        )
    return identity


def _require_recent(identity: MeshIdentity, now: int) -> None:
    """Whatever end a leaf states: its machine was attested within the hour, or it does not count.

    A leaf that was issued later than `now` is not valid yet.
    """
    if now - identity.issued > LEAF_LIFETIME:
        raise VerificationError(
            "leaf-too-old",
            "the peer's certificate was issued more than an hour ago",
            expected=f"at most {LEAF_LIFETIME} s",
            seen=f"{now - identity.issued} s, at unix time {identity.issued}",
            next="check this machine's clock; a node must join again before its hour ends",
        )


def verify_mesh_ca(
    mesh_ca_der: bytes, root_ca_der: bytes, *, manifest_sha256: bytes, now: int
) -> None:
    """Verify that the root CA made this mesh CA for exactly this manifest. Raises as above."""
    root = _load_issued(root_ca_der, _ROOT, None)
    mesh = _load_issued(mesh_ca_der, _MESH, root.certificate)
    for issued in (root, mesh):
        _require_valid(issued, now)
    seen = parse_mesh_ca(mesh.certificate)
    if seen != manifest_sha256:
        raise VerificationError(
            "wrong-manifest",
            "the mesh CA was made for another manifest",
            expected=manifest_sha256.hex(),
            seen=seen.hex(),
        )


def verify_root_ca(root_ca_der: bytes, *, now: int) -> None:
    """Verify that this is a root CA of the profile, valid at `now`. Raises as above."""
    _require_valid(_load_issued(root_ca_der, _ROOT, None), now)


@dataclass(frozen=True)
class _Issued:
    """A certificate that its issuer has signed and that has the profile, with its validity."""

    what: str
    certificate: x509.Certificate
    start: int
    end: int


def _require_valid(issued: _Issued, now: int) -> None:
    if not issued.start <= now <= issued.end:
        raise VerificationError(
            "not-valid-now",
            f"the {issued.what} certificate is not valid at this time",
            expected=f"unix time {issued.start} to {issued.end}",
            seen=str(now),
            next="check this machine's clock; a node must join again before its hour ends",
        )


# Remembered, because a client verifies the same chain with every receipt. It is a function of the
# bytes alone (times are checked each time), and what raises is not remembered.
@functools.lru_cache(maxsize=512)
def _load_chain(
    leaf_der: bytes, mesh_ca_der: bytes, root_ca_der: bytes
) -> tuple[MeshIdentity, tuple[_Issued, _Issued, _Issued]]:
    """What the leaf says, and the chain from the root CA down; all but the time is checked."""
    root = _load_issued(root_ca_der, _ROOT, None)
    mesh = _load_issued(mesh_ca_der, _MESH, root.certificate)
    parse_mesh_ca(mesh.certificate)
    leaf = _load_issued(leaf_der, _LEAF, mesh.certificate)
    return parse_leaf(leaf.certificate), (root, mesh, leaf)


def _load_issued(der: bytes, profile: _Profile, issuer: x509.Certificate | None) -> _Issued:
    """Load one certificate and check it; `issuer` None means that it has signed itself."""
    what = profile.what
    certificate = load_certificate(der, what)
    # The signature first: without it, the rest is not worth reading.
    try:
        certificate.verify_directly_issued_by(issuer or certificate)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise VerificationError(
            "bad-chain", f"the {what} certificate was not signed by its issuer"
        ) from error
    _check_profile(certificate, profile)
    return _Issued(
        what,
        certificate,
        int(certificate.not_valid_before_utc.timestamp()),
        int(certificate.not_valid_after_utc.timestamp()),
    )


def _check_profile(certificate: x509.Certificate, profile: _Profile) -> None:
    what = profile.what
    algorithm = certificate.signature_algorithm_oid
    if certificate.version is not x509.Version.v3:
        raise _profile_error(what, "X.509 version 3", certificate.version.name)
    if algorithm != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise _profile_error(what, "ECDSA with SHA-256", algorithm.dotted_string)
    public_key_of(certificate, what)
    extensions = {extension.oid: extension for extension in certificate.extensions}
    for oid in extensions.keys() - profile.extensions:
        raise _profile_error(what, "no other extension", oid.dotted_string)
    for oid in profile.extensions - extensions.keys():
        raise _profile_error(what, f"extension {oid.dotted_string}", "none")
    is_ca = profile.path_length is not None
    exact: dict[x509.ObjectIdentifier, x509.ExtensionType] = {
        ExtensionOID.BASIC_CONSTRAINTS: x509.BasicConstraints(is_ca, profile.path_length),
        ExtensionOID.KEY_USAGE: key_usage(ca=is_ca),
    }
    for oid, value in exact.items():
        if extensions[oid].value != value:
            raise _profile_error(what, str(value), str(extensions[oid].value))
    for oid, extension in extensions.items():
        if extension.critical != (oid in exact):
            raise _profile_error(
                what, "only constraints and key usage critical", f"{oid.dotted_string} otherwise"
            )
    if not is_ca and extensions[ExtensionOID.EXTENDED_KEY_USAGE].value != EXTENDED_KEY_USAGE:
        raise _profile_error(what, "use as TLS server and client", "another use")


def _profile_error(what: str, expected: str, seen: str) -> VerificationError:
    return VerificationError(
        "bad-profile",
        f"the {what} certificate is not of the mesh profile",
        expected=expected,
        seen=seen,
    )
