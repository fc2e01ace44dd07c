"""AMD's chain: root (ARK), intermediate (ASK or ASVK), endorsement key (VCEK or VLEK)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import SignatureAlgorithmOID

from confide.encoding.x509 import load_certificate
from confide.errors import FormatError
from confide.protocol.policy.snp import OptOut, SnpPolicy
from confide.vendors.amd.certificates import EndorsementKey
from confide.vendors.amd.report import Product
from confide.verify.claims import InsecureAny
from confide.verify.roots import AMD_GENOA, AMD_MILAN, AMD_TURIN
from confide.verify.snp.collateral import SnpCollateral
from confide.verify.verdict import Check, check_equal
from confide.verify.x509 import (
    check_crl,
    check_validity,
    extension,
    is_ca,
    is_revoked,
    is_signed_by,
    load_crl,
    spki_sha256,
    subject,
)

ROOTS = {Product.MILAN: AMD_MILAN, Product.GENOA: AMD_GENOA, Product.TURIN: AMD_TURIN}
RSA_BITS = 4096
_PSS = SignatureAlgorithmOID.RSASSA_PSS
_NAMES = ("endorsement key", "intermediate", "root")


@dataclass(frozen=True)
class Chain:
    """Three certificates that could be read: nothing about them is checked yet."""

    key: EndorsementKey
    intermediate: x509.Certificate
    root: x509.Certificate

    @property
    def certificates(self) -> tuple[x509.Certificate, x509.Certificate, x509.Certificate]:
        """Leaf first."""
        return self.key.certificate, self.intermediate, self.root


def load_chain(endorsements: Sequence[bytes], collateral: SnpCollateral) -> Chain:
    """The chain from the evidence (leaf first), and from the collateral what it does not have.

    Raises FormatError if a certificate is missing or malformed, or one too many is there.
    """
    if len(endorsements) > len(_NAMES):
        seen = f"{len(endorsements)} certificates"
        raise FormatError("bad-endorsements", "too many certificates", expected="3", seen=seen)
    parts = [collateral.endorsement_key, collateral.intermediate, collateral.root]
    parts[: len(endorsements)] = endorsements
    key, intermediate, root = (_require(der, name) for der, name in zip(parts, _NAMES, strict=True))
    return Chain(
        EndorsementKey.parse(key),
        load_certificate(intermediate, "intermediate"),
        load_certificate(root, "root"),
    )


def check_chain(chain: Chain, now: int) -> list[Check]:
    """From the root, by its key, down to the endorsement key, at `now` (unix seconds)."""
    known = ROOTS[chain.key.product]
    checks = [
        check_equal(
            "root",
            known.spki_sha256,
            spki_sha256(chain.root),
            f"{known.vendor}'s root key for {known.product}",
        ),
        _check_ca("root certificate", chain.root, chain.root),
        _check_ca("intermediate certificate", chain.intermediate, chain.root),
        _check_leaf(chain.key.certificate, chain.intermediate),
    ]
    for name, certificate in zip(_NAMES, chain.certificates, strict=True):
        checks.append(check_validity(f"{name} validity", certificate, now))
    return checks


def check_revocation(chain: Chain, crl: bytes | None, policy: SnpPolicy, now: int) -> list[Check]:
    """The root's list is there, authentic and current, and none of the chain is on it."""
    name = "revocation list"
    if OptOut.WITHOUT_REVOCATION in policy.opt_outs:
        claim = InsecureAny(name, OptOut.WITHOUT_REVOCATION, "manifest")
        return [claim.check("not looked at")]
    if crl is None:
        return [Check(name, f"one of {subject(chain.root)}", "none", False, "collateral")]
    try:
        parsed = load_crl(crl, "root's")
    except FormatError as error:
        return [Check(name, error.expected, str(error), False, "collateral")]
    listed = check_crl(name, parsed, chain.root, _PSS, now)
    if not listed.passed:
        return [listed]  # what it says of a certificate is nobody's word
    revoked = [
        part
        for part, certificate in zip(_NAMES, chain.certificates, strict=True)
        if is_revoked(parsed, certificate)
    ]
    return [
        listed,
        Check("revocation", "none", " ".join(revoked) or "none", not revoked, "revocation list"),
    ]


def _check_ca(name: str, certificate: x509.Certificate, issuer: x509.Certificate) -> Check:
    key = certificate.public_key()
    passed = (
        is_ca(certificate)
        and isinstance(key, rsa.RSAPublicKey)
        and key.key_size == RSA_BITS
        and is_signed_by(certificate, issuer, _PSS)
    )
    signer = "itself" if certificate is issuer else "the root"
    return _said(name, f"a CA of RSA-{RSA_BITS}, signed by {signer}", certificate, passed)


def _check_leaf(certificate: x509.Certificate, issuer: x509.Certificate) -> Check:
    constraints = extension(certificate, x509.BasicConstraints)
    passed = not (constraints and constraints.ca) and is_signed_by(certificate, issuer, _PSS)
    expected = "no CA, signed by the intermediate"
    return _said("endorsement key certificate", expected, certificate, passed)


def _said(name: str, expected: str, certificate: x509.Certificate, passed: bool) -> Check:
    seen = subject(certificate) if passed else f"not so: {subject(certificate)}"
    return Check(name, expected, seen, passed, "issuer")


def _require(der: bytes | None, name: str) -> bytes:
    if der is None:
        raise FormatError(
            "missing-certificate",
            f"no certificate of the {name}",
            expected="one with the evidence or in the collateral",
            next="let the host hand it over, or fetch collateral for this machine",
        )
    return der
