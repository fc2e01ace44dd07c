"""Who vouches for a vTPM's attestation key: the chain from its certificate to a pinned root.

Rules that hold when every check passes:
- The chain ends in a self-signed certificate whose public key is the authority's; every certificate
  above the leaf may sign certificates, as deep as that goes, and did sign the one below it; all are
  valid at `now`, and none has a critical extension that is not understood.
- The leaf is no CA, and its issuer says of it that it is an attestation key: by the usage that the
  TCG has for this, or, with a cloud, by the cloud's own statement of the machine it belongs to.

Source: TCG EK Credential Profile 2.5, 3.2 and 3.6 (usages); RFC 5280, 4.2.1 (extensions); Google's
certificates are as its own verifier reads them (go-tpm-tools, server/verify.go).
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtensionOID, SignatureAlgorithmOID

from confide.errors import FormatError
from confide.protocol.policy.vtpm import DevelopmentCa, VtpmAuthority
from confide.vendors.tpm.structures import AK_USAGE_OID
from confide.verify.roots import GOOGLE_TPM_ROOT
from confide.verify.verdict import Check, check_equal
from confide.verify.x509 import (
    check_validity,
    extension,
    is_ca,
    is_signed_by,
    spki_sha256,
    subject,
    unknown_critical,
)

MAX_CHAIN = 4
# What machine a key belongs to, in each certificate that Google issues for a vTPM.
GOOGLE_INSTANCE_OID = "1.3.6.1.4.1.11129.2.1.21"
_SIGNATURES = (
    SignatureAlgorithmOID.ECDSA_WITH_SHA256,
    SignatureAlgorithmOID.ECDSA_WITH_SHA384,
    SignatureAlgorithmOID.RSA_WITH_SHA256,
    SignatureAlgorithmOID.RSA_WITH_SHA384,
)


def check_chain(
    chain: Sequence[x509.Certificate], authority: VtpmAuthority, now: int
) -> list[Check]:
    """The checks of a chain, leaf first, root last, at `now` (unix seconds)."""
    if isinstance(authority, DevelopmentCa):
        root, source = authority.spki_sha256, "manifest"
    else:
        root, source = GOOGLE_TPM_ROOT.spki_sha256, f"manifest, insecure_cloud {authority.name}"
    leaf, issuers = chain[0], chain[1:]
    checks = [
        Check(
            "attestation key's chain",
            f"2 to {MAX_CHAIN} certificates",
            str(len(chain)),
            2 <= len(chain) <= MAX_CHAIN,
            "evidence format",
        ),
        check_equal("issuer", root, spki_sha256(chain[-1]), source),
        *(_check_issuer(number, issuers) for number in range(len(issuers))),
        _check_leaf(leaf, issuers, development=isinstance(authority, DevelopmentCa)),
    ]
    names = ["attestation key validity", *["issuer validity"] * len(issuers)]
    checks += [check_validity(n, c, now) for n, c in zip(names, chain, strict=True)]
    return checks


def attestation_key(
    certificate: x509.Certificate,
) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """The key that a leaf certifies. Raises FormatError unless it is P-256 or RSA.

    The key must be one that could be read (see `formats.certificates.load_certificate`).
    """
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise FormatError(
        "bad-key",
        "the attestation key is of another kind",
        expected="P-256 or RSA",
        seen=type(key).__name__,
    )


def _check_issuer(number: int, issuers: Sequence[x509.Certificate]) -> Check:
    """May sign certificates, and is signed by the next, the last by itself."""
    issuer = issuers[number]
    signer = issuers[min(number + 1, len(issuers) - 1)]
    passed = (
        is_ca(issuer, below=number)
        and unknown_critical(issuer) is None
        and _is_signed_by(issuer, signer)
    )
    is_root = number == len(issuers) - 1
    return Check(
        "issuer certificate",
        "a self-signed CA certificate" if is_root else "a CA certificate, signed by the next",
        subject(issuer) if passed else f"not one: {subject(issuer)}",
        passed,
        "evidence format",
    )


def _check_leaf(
    leaf: x509.Certificate, issuers: Sequence[x509.Certificate], *, development: bool
) -> Check:
    if development:
        usage = extension(leaf, x509.ExtendedKeyUsage)
        is_ak = usage is not None and [oid.dotted_string for oid in usage] == [AK_USAGE_OID]
    else:
        is_ak = any(e.oid.dotted_string == GOOGLE_INSTANCE_OID for e in leaf.extensions)
    constraints = extension(leaf, x509.BasicConstraints)
    # Without the extension it is no CA either (RFC 5280, 4.2.1.9), but the runner's always has it.
    may_issue = constraints.ca if constraints is not None else development
    passed = (
        is_ak
        and not may_issue
        and unknown_critical(leaf, ExtensionOID.EXTENDED_KEY_USAGE) is None
        and bool(issuers)
        and _is_signed_by(leaf, issuers[0])
    )
    return Check(
        "attestation key certificate",
        "signed by the issuer, for a TPM attestation key",
        subject(leaf) if passed else f"not so: {subject(leaf)}",
        passed,
        "issuer",
    )


def _is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    algorithm = certificate.signature_algorithm_oid
    return algorithm in _SIGNATURES and is_signed_by(certificate, issuer, algorithm)
