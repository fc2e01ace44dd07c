"""Who certifies a vTPM's attestation key: the chain from its certificate to a pinned root.

Rules that hold when every check passes:
- The chain ends in a self-signed certificate whose public key is the authority's; every certificate
  above the leaf may sign certificates, as deep as that goes, and did sign the one below it; all are
  valid at `now`, and none has a critical extension that is not understood.
- The leaf is not a CA, and its issuer says that it is an attestation key: by the usage that the TCG
  has for this, or, with a cloud, by the cloud's own statement of the machine it belongs to.

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
from confide.verify.chain import Place, Profile, Walker
from confide.verify.roots import GOOGLE_TPM_ROOT
from confide.verify.verdict import COLLATERAL, FORMAT, Check, check_equal
from confide.verify.x509 import check_validity, extension, spki_sha256, subject

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
        root, source, profile = authority.spki_sha256, "manifest", _DEVELOPMENT
    else:
        root, source = GOOGLE_TPM_ROOT.spki_sha256, f"manifest, insecure_cloud {authority.name}"
        profile = _CLOUD
    leaf_fault, *faults = Walker().faults(chain, profile)
    checks = [
        _check_whole(chain, authority),
        check_equal("issuer", root, spki_sha256(chain[-1]), source),
        *(
            _check(
                "issuer certificate",
                "a CA certificate, signed by itself"
                if certificate is chain[-1]
                else "a CA certificate, signed by the next",
                certificate,
                fault,
                FORMAT,
            )
            for certificate, fault in zip(chain[1:], faults, strict=True)
        ),
        _check(
            "attestation key certificate",
            "signed by the issuer, for a TPM attestation key",
            chain[0],
            leaf_fault,
            "issuer",
        ),
    ]
    names = ["attestation key validity", *["issuer validity"] * (len(chain) - 1)]
    return checks + [check_validity(n, c, now) for n, c in zip(names, chain, strict=True)]


def attestation_key(
    certificate: x509.Certificate,
) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """The key that a leaf certifies. Raises FormatError unless it is P-256 or RSA.

    The key must be one that could be read (see `encoding.x509.load_certificate`).
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


def _check_whole(chain: Sequence[x509.Certificate], authority: VtpmAuthority) -> Check:
    """The chain has a possible length; a cloud's, completed with collateral, goes up to a root."""
    seen, passed, source = f"{len(chain)}", len(chain) in _LENGTHS, FORMAT
    if not isinstance(authority, DevelopmentCa):
        source = COLLATERAL
        if chain[-1].issuer != chain[-1].subject:
            seen, passed = f"{seen}, without the root", False
    return Check("attestation key's chain", f"2 to {MAX_CHAIN} certificates", seen, passed, source)


def _check(
    name: str, expected: str, certificate: x509.Certificate, fault: str, source: str
) -> Check:
    return Check(name, expected, fault or subject(certificate), not fault, source)


def _development_leaf(certificate: x509.Certificate) -> str:
    usage = extension(certificate, x509.ExtendedKeyUsage)
    if usage is None or [oid.dotted_string for oid in usage] != [AK_USAGE_OID]:
        return "is not for an attestation key"
    constraints = extension(certificate, x509.BasicConstraints)
    return "does not say that it is not a CA" if constraints is None or constraints.ca else ""


def _cloud_leaf(certificate: x509.Certificate) -> str:
    oids = [e.oid.dotted_string for e in certificate.extensions]
    if GOOGLE_INSTANCE_OID not in oids:
        return "does not name the machine that the key belongs to"
    # Without the extension it is not a CA either (RFC 5280, 4.2.1.9).
    constraints = extension(certificate, x509.BasicConstraints)
    return "is a CA" if constraints and constraints.ca else ""


_LENGTHS = range(2, MAX_CHAIN + 1)
_USAGE = (ExtensionOID.EXTENDED_KEY_USAGE,)
_DEVELOPMENT, _CLOUD = (
    Profile(_LENGTHS, _SIGNATURES, (Place(known_critical=_USAGE, rule=rule), Place()))
    for rule in (_development_leaf, _cloud_leaf)
)
