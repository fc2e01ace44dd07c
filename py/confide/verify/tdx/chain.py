"""Who vouches for the keys: certificate chains to Intel's root, and what has been revoked.

Rules that hold when every check passes:
- Each chain ends in a self-signed certificate whose public key is the pinned one of Intel's root;
  each certificate has the name of its part in the hierarchy, is signed by the next one with ECDSA
  and SHA-256, and is valid now. Only those above a leaf may sign certificates.
- Both revocation lists are signed by the CA whose certificates they are about and are current; no
  certificate of any chain is in them.

Source: Intel SGX PCK Certificate and CRL Profile Specification, revision 1.5, section 1.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

from confide.encoding.x509 import load_certificate
from confide.errors import FormatError
from confide.protocol.certificates import public_key_of
from confide.vendors.intel.collateral import TdxCollateral
from confide.vendors.intel.quote import Quote
from confide.verify import roots
from confide.verify.verdict import Check, check_equal
from confide.verify.x509 import (
    check_crl,
    check_validity,
    is_ca,
    is_revoked,
    is_signed_by,
    load_crl,
    spki_sha256,
)

ECDSA_SHA256 = SignatureAlgorithmOID.ECDSA_WITH_SHA256


@dataclass(frozen=True)
class _Part:
    """A place in Intel's hierarchy: the common names that may stand there."""

    names: tuple[str, ...]
    is_ca: bool = True

    def __str__(self) -> str:
        return " or ".join(self.names)


_ROOT = _Part(("Intel SGX Root CA",))
_PCK_CA = _Part(("Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"))
_PCK_CHAIN = (_Part(("Intel SGX PCK Certificate",), is_ca=False), _PCK_CA, _ROOT)
_SIGNING_CHAIN = (_Part(("Intel SGX TCB Signing",), is_ca=False), _ROOT)
_PIN = "pinned key of Intel SGX Root CA"
_KNOWN_CRITICAL = (ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE)


class Certificates:
    """The certificates and revocation lists of one verification.

    Chains share certificates, above all the root: each is read once, and checked once in its place.
    `pck` is the leaf of the quote's chain; the keys are those of the three leaves. Raises
    FormatError for bytes that are no P-256 certificate or no list.
    """

    def __init__(self, quote: Quote, collateral: TdxCollateral) -> None:
        self._read: dict[bytes, x509.Certificate] = {}
        self._problems: dict[tuple[bytes, bytes, _Part], str] = {}
        self._chains = {
            "PCK certificate": (quote.pck_chain, _PCK_CHAIN),
            "TCB info signer": (collateral.tcb_info_chain, _SIGNING_CHAIN),
            "QE identity signer": (collateral.qe_identity_chain, _SIGNING_CHAIN),
        }
        keys = [self._load(name, chain) for name, (chain, _) in self._chains.items()]
        self.pck_key, self.tcb_info_key, self.qe_identity_key = keys
        self.pck = self._read[quote.pck_chain[0]]
        self._root_crl = load_crl(collateral.root_ca_crl, "root CA's")
        self._pck_crl = load_crl(collateral.pck_crl, "PCK CA's")

    def check(self, now: int) -> list[Check]:
        """All checks of the chains and of revocation, at `now` (unix seconds)."""
        last = dict.fromkeys(chain[-1] for chain, _ in self._chains.values())
        checks = [
            check_equal(
                "root key", roots.INTEL_SGX.spki_sha256, spki_sha256(self._read[root]), _PIN
            )
            for root in last
        ]
        checks += [
            self._check_chain(name, chain, parts) for name, (chain, parts) in self._chains.items()
        ]
        checks += [
            check_validity(f"validity of {_common_name(certificate)}", certificate, now)
            for certificate in self._read.values()
        ]
        pck_chain, parts = self._chains["PCK certificate"]
        if len(pck_chain) != len(parts):
            return checks  # the check of the chain has failed: there is no CA to ask for a list
        leaf, ca, root = (self._read[der] for der in pck_chain)
        others = [certificate for certificate in self._read.values() if certificate is not leaf]
        return [
            *checks,
            *_check_list("root CA", self._root_crl, root, "CA and signers", others, now),
            *_check_list("PCK CA", self._pck_crl, ca, "PCK certificate", [leaf], now),
        ]

    def _load(self, name: str, chain: Sequence[bytes]) -> ec.EllipticCurvePublicKey:
        """Reads what was not read before; returns the key of the leaf."""
        if not chain:
            raise FormatError("bad-chain", f"the chain of the {name} is empty")
        for der in chain:
            if der not in self._read:
                self._read[der] = load_certificate(der, name)
                public_key_of(self._read[der], name)
        return public_key_of(self._read[chain[0]], name)

    def _check_chain(self, name: str, chain: Sequence[bytes], parts: Sequence[_Part]) -> Check:
        expected = ", signed by ".join(map(str, parts))
        problem = f"{len(chain)} certificates" if len(chain) != len(parts) else ""
        issuers = (*chain[1:], chain[-1])
        for der, issuer, part in zip(chain, issuers, parts, strict=False):
            problem = problem or self._problem(der, issuer, part)
        return Check(
            f"{name}: chain", expected, problem or expected, not problem, "Intel's hierarchy"
        )

    def _problem(self, der: bytes, issuer: bytes, part: _Part) -> str:
        """What is wrong with a certificate in this place, "" if nothing is."""
        key = (der, issuer, part)
        if key not in self._problems:
            self._problems[key] = _find_problem(self._read[der], self._read[issuer], part)
        return self._problems[key]


def _find_problem(certificate: x509.Certificate, issuer: x509.Certificate, part: _Part) -> str:
    name = _common_name(certificate)
    if name not in part.names:
        return f"{name} in place of {part}"
    if is_ca(certificate) != part.is_ca:
        return f"{name} {'may not' if part.is_ca else 'may'} sign certificates"
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _KNOWN_CRITICAL:
            return f"{name} has an unknown critical extension"
    if not is_signed_by(certificate, issuer, ECDSA_SHA256):
        return f"{name} is not signed by {_common_name(issuer)}"
    return ""


def _check_list(
    issuer_name: str,
    crl: x509.CertificateRevocationList,
    issuer: x509.Certificate,
    name: str,
    certificates: Sequence[x509.Certificate],
    now: int,
) -> list[Check]:
    """That the list is its issuer's and current, and that it names none of the certificates."""
    listed = check_crl(f"{issuer_name}'s revocation list", crl, issuer, ECDSA_SHA256, now)
    if not listed.passed:
        return [listed]  # what it says of a certificate is nobody's word
    revoked = [c for c in certificates if is_revoked(crl, c)]
    seen = f"revoked: serial number {revoked[0].serial_number:x}" if revoked else "not revoked"
    check = Check(f"{name}: revocation", "not revoked", seen, not revoked, "revocation list")
    return [listed, check]


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return ascii(names[0].value)[1:-1][:80] if len(names) == 1 else "a certificate without one name"
