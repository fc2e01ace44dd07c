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
from confide.verify.chain import Place, Profile, Walker
from confide.verify.claims import InsecureAny
from confide.verify.machine import SNP_CERTIFICATES
from confide.verify.roots import AMD_GENOA, AMD_MILAN, AMD_TURIN
from confide.verify.snp.collateral import SnpCollateral
from confide.verify.verdict import COLLATERAL, Check, check_equal
from confide.verify.x509 import (
    check_revocation,
    check_validity,
    extension,
    load_crl,
    spki_sha256,
    subject,
)

ROOTS = {Product.MILAN: AMD_MILAN, Product.GENOA: AMD_GENOA, Product.TURIN: AMD_TURIN}
RSA_BITS = 4096
PSS = SignatureAlgorithmOID.RSASSA_PSS


@dataclass(frozen=True)
class Chain:
    """Three certificates that could be read; nothing about them is verified yet."""

    key: EndorsementKey
    intermediate: x509.Certificate
    root: x509.Certificate

    @property
    def certificates(self) -> tuple[x509.Certificate, x509.Certificate, x509.Certificate]:
        """Leaf first."""
        return self.key.certificate, self.intermediate, self.root


def load_chain(
    key: EndorsementKey | None, issuers: Sequence[x509.Certificate], collateral: SnpCollateral
) -> Chain:
    """The chain that came with the evidence, completed with what the collateral has.

    Raises:
        FormatError: a certificate is missing, or one in the collateral is malformed.
    """
    issuers = list(issuers)
    if key is None:
        key = EndorsementKey.parse(_require(collateral.endorsement_key, SNP_CERTIFICATES[0]))
    parts = (collateral.intermediate, collateral.root)
    for name, der in list(zip(SNP_CERTIFICATES[1:], parts, strict=True))[len(issuers) :]:
        issuers.append(load_certificate(_require(der, name), name))
    return Chain(key, *issuers)


def check_chain(chain: Chain, now: int) -> list[Check]:
    """From the root, by its key, down to the endorsement key, at `now` (unix seconds)."""
    known = ROOTS[chain.key.product]
    checks = [
        check_equal(
            "root",
            known.spki_sha256,
            spki_sha256(chain.root),
            f"{known.vendor}'s root key for {known.product}",
        )
    ]
    expected = (
        "not a CA, signed by the intermediate",
        f"a CA with a key of RSA-{RSA_BITS}, signed by the root",
        f"a CA with a key of RSA-{RSA_BITS}, signed by itself",
    )
    faults = Walker().faults(chain.certificates, PROFILE)
    parts = list(zip(SNP_CERTIFICATES, chain.certificates, expected, faults, strict=True))
    checks += [
        Check(f"{name} certificate", wanted, fault or subject(certificate), not fault, "issuer")
        for name, certificate, wanted, fault in reversed(parts)
    ]
    return checks + [
        check_validity(f"{name} validity", certificate, now) for name, certificate, *_ in parts
    ]


def check_revoked(chain: Chain, crl: bytes | None, policy: SnpPolicy, now: int) -> list[Check]:
    """The root's list is there, authentic and current, and none of the chain is on it."""
    name = "revocation list"
    if OptOut.WITHOUT_REVOCATION in policy.opt_outs:
        claim = InsecureAny(name, OptOut.WITHOUT_REVOCATION, "manifest")
        return [claim.check("not looked at")]
    if crl is None:
        return [Check(name, f"one of {subject(chain.root)}", "none", False, COLLATERAL)]
    try:
        parsed = load_crl(crl, "root's")
    except FormatError as error:
        return [Check(name, error.expected, str(error), False, COLLATERAL)]
    return check_revocation((name, "revocation"), parsed, chain.root, PSS, chain.certificates, now)


def _leaf_rule(certificate: x509.Certificate) -> str:
    constraints = extension(certificate, x509.BasicConstraints)
    return "is a CA" if constraints and constraints.ca else ""


def _issuer_rule(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    is_rsa = isinstance(key, rsa.RSAPublicKey) and key.key_size == RSA_BITS
    return "" if is_rsa else f"has a key other than RSA-{RSA_BITS}"


_ISSUER = Place(rule=_issuer_rule)
PROFILE = Profile(
    range(3, 4), (PSS,), (Place(known_critical=None, rule=_leaf_rule), _ISSUER, _ISSUER)
)


def _require(der: bytes | None, name: str) -> bytes:
    if der is None:
        raise FormatError(
            "missing-certificate",
            f"the certificate of the {name} is missing",
            expected="one with the evidence or in the collateral",
            next="let the host give it, or fetch collateral for this machine",
        )
    return der
