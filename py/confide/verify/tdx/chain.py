"""Who certifies the keys: certificate chains to Intel's root, and what has been revoked.

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

from cryptography import x509
from cryptography.x509.oid import SignatureAlgorithmOID

from confide.encoding.x509 import load_certificate
from confide.errors import FormatError
from confide.protocol.certificates import public_key_of
from confide.vendors.intel.collateral import TdxCollateral
from confide.verify import roots
from confide.verify.chain import Place, Profile, Walker
from confide.verify.machine import PckChain
from confide.verify.verdict import Check, check_equal
from confide.verify.x509 import (
    check_revocation,
    check_validity,
    load_crl,
    short_name,
    spki_sha256,
)

ECDSA_SHA256 = SignatureAlgorithmOID.ECDSA_WITH_SHA256


_ROOT = Place(("Intel SGX Root CA",))
_PCK_CA = Place(("Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"))
_ECDSA = (ECDSA_SHA256,)
PCK_CHAIN = Profile(range(3, 4), _ECDSA, (Place(("Intel SGX PCK Certificate",)), _PCK_CA, _ROOT))
SIGNING_CHAIN = Profile(range(2, 3), _ECDSA, (Place(("Intel SGX TCB Signing",)), _ROOT))
_PIN = "pinned key of Intel SGX Root CA"


class Certificates:
    """The certificates and revocation lists of one verification.

    Chains share certificates, above all the root: each is read once, and checked once in its place.
    The keys are those of the three leaves.

    Raises:
        FormatError: a certificate has no P-256 key, or bytes of the collateral cannot be read.
    """

    def __init__(self, pck_chain: PckChain, collateral: TdxCollateral) -> None:
        self._read = dict(zip(pck_chain.ders, pck_chain.certificates, strict=True))
        for certificate in pck_chain.certificates:
            public_key_of(certificate, "PCK")
        self._chains = {
            "PCK certificate": (pck_chain.certificates, PCK_CHAIN),
            "TCB info signer": (
                self._load("TCB info signer's", collateral.tcb_info_chain),
                SIGNING_CHAIN,
            ),
            "QE identity signer": (
                self._load("QE identity signer's", collateral.qe_identity_chain),
                SIGNING_CHAIN,
            ),
        }
        keys = [public_key_of(chain[0], name) for name, (chain, _) in self._chains.items()]
        self.pck_key, self.tcb_info_key, self.qe_identity_key = keys
        self._root_crl = load_crl(collateral.root_ca_crl, "root CA's")
        self._pck_crl = load_crl(collateral.pck_crl, "PCK CA's")

    def check(self, now: int) -> list[Check]:
        """All checks of the chains and of revocation, at `now` (unix seconds)."""
        walker = Walker()
        last = {id(chain[-1]): chain[-1] for chain, _ in self._chains.values()}
        checks = [
            check_equal("root key", roots.INTEL_SGX.spki_sha256, spki_sha256(root), _PIN)
            for root in last.values()
        ]
        for name, (chain, profile) in self._chains.items():
            fault = walker.first_fault(chain, profile)
            places = (" or ".join(place.names) for place in profile.places)
            expected = ", signed by ".join(places)
            checks.append(
                Check(f"{name}: chain", expected, fault or expected, not fault, "Intel's hierarchy")
            )
        checks += [
            check_validity(f"validity of {short_name(certificate)}", certificate, now)
            for certificate in self._read.values()
        ]
        pck_chain, profile = self._chains["PCK certificate"]
        if len(pck_chain) not in profile.lengths:
            return checks  # the check of the chain has failed: there is no CA to ask for a list
        leaf, ca, root = pck_chain
        others = [c for c in self._read.values() if c is not leaf]
        return [
            *checks,
            *check_revocation(
                ("root CA's revocation list", "CA and signers: revocation"),
                self._root_crl,
                root,
                ECDSA_SHA256,
                others,
                now,
            ),
            *check_revocation(
                ("PCK CA's revocation list", "PCK certificate: revocation"),
                self._pck_crl,
                ca,
                ECDSA_SHA256,
                [leaf],
                now,
            ),
        ]

    def _load(self, name: str, chain: Sequence[bytes]) -> tuple[x509.Certificate, ...]:
        """The chain's certificates; those that were not read before are read."""
        if not chain:
            raise FormatError("bad-chain", f"the {name} certificate chain is empty")
        for der in chain:
            if der not in self._read:
                self._read[der] = load_certificate(der, name)
                public_key_of(self._read[der], name)
        return tuple(self._read[der] for der in chain)
