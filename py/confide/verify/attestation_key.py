"""Who certifies a vTPM's attestation key: the chain from its certificate to a pinned root.

Rules that hold when every check passes:
- The chain ends in a self-signed certificate whose public key is the authority's; every certificate
  above the leaf may sign certificates, as deep as that goes, and did sign the one below it; all are
  valid at `now`, and none has a critical extension that is not understood.
- The leaf is not a CA, and its issuer says that it is an attestation key, by the usage that the TCG
  has for this.

Source: TCG EK Credential Profile 2.5, 3.2 and 3.6 (usages); RFC 5280, 4.2.1 (extensions).
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtensionOID, SignatureAlgorithmOID

from confide.errors import FormatError
from confide.protocol.policy.vtpm import DevelopmentCa
from confide.vendors.tpm.structures import AK_USAGE_OID
from confide.verify.chain import Place, Profile, Walker
from confide.verify.verdict import FORMAT, Check, check_equal
from confide.verify.x509 import check_validity, extension, spki_sha256, subject

MAX_CHAIN = 4
_SIGNATURES = (
    SignatureAlgorithmOID.ECDSA_WITH_SHA256,
    SignatureAlgorithmOID.ECDSA_WITH_SHA384,
    SignatureAlgorithmOID.RSA_WITH_SHA256,
    SignatureAlgorithmOID.RSA_WITH_SHA384,
)


def check_chain(
    chain: Sequence[x509.Certificate], authority: DevelopmentCa, now: int
) -> list[Check]:
    """The checks of a chain, leaf first, root last, at `now` (unix seconds)."""
    leaf_fault, *faults = Walker().faults(chain, _PROFILE)
    checks = [
        Check(
            "attestation key's chain",
            f"2 to {MAX_CHAIN} certificates",
            f"{len(chain)}",
            len(chain) in _PROFILE.lengths,
            FORMAT,
        ),
        check_equal("issuer", authority.spki_sha256, spki_sha256(chain[-1]), "manifest"),
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


def _check(
    name: str, expected: str, certificate: x509.Certificate, fault: str, source: str
) -> Check:
    return Check(name, expected, fault or subject(certificate), not fault, source)


def _leaf_fault(certificate: x509.Certificate) -> str:
    usage = extension(certificate, x509.ExtendedKeyUsage)
    if usage is None or [oid.dotted_string for oid in usage] != [AK_USAGE_OID]:
        return "is not for an attestation key"
    constraints = extension(certificate, x509.BasicConstraints)
    return "does not say that it is not a CA" if constraints is None or constraints.ca else ""


_USAGE = (ExtensionOID.EXTENDED_KEY_USAGE,)
_PROFILE = Profile(
    range(2, MAX_CHAIN + 1), _SIGNATURES, (Place(known_critical=_USAGE, rule=_leaf_fault), Place())
)
