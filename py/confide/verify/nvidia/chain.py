"""NVIDIA's certificate chains: P-384 throughout, leaf first, up to a root that is known by its key.

Source: RFC 5280, 4.2.1.3, 4.2.1.9 and 6.1 (path validation), as far as NVIDIA's profile has it.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import SignatureAlgorithmOID

from confide.encoding.x509 import load_certificate
from confide.errors import FormatError
from confide.vendors.nvidia.rim import MAX_CERTIFICATES
from confide.verify.chain import Place, Profile, Walker
from confide.verify.roots import Root
from confide.verify.verdict import Check, check_equal
from confide.verify.x509 import check_validity, extension, spki_sha256, subject

ALGORITHM = SignatureAlgorithmOID.ECDSA_WITH_SHA384
Chain = tuple[x509.Certificate, ...]


def load_chain(ders: Sequence[bytes], what: str) -> Chain:
    """DER certificates, each with a P-384 key. Raises FormatError."""
    chain = tuple(load_certificate(der, what) for der in ders)
    for certificate in chain:
        public_key(certificate, what)
    return chain


def public_key(certificate: x509.Certificate, what: str) -> ec.EllipticCurvePublicKey:
    """The certificate's P-384 key. Raises FormatError for any other kind."""
    try:
        key = certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _bad_key(what, "one that cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _bad_key(what, type(key).__name__)
    return key


def check_chain(name: str, chain: Chain, root: Root, now: int) -> list[Check]:
    """That `chain` ends in `root`, that each certificate signed the one before, and the time.

    `chain` is from `load_chain` and not empty; `now` is in unix seconds.
    """
    times = [check_validity(f"{name} validity", certificate, now) for certificate in chain]
    fault = Walker().first_fault(chain, PROFILE)
    return [
        check_equal(
            f"{name} root", root.spki_sha256, spki_sha256(chain[-1]), f"{root.vendor} root key"
        ),
        Check(
            f"{name} chain",
            "each signed by the next",
            fault or f"{len(chain)} certificates, first {subject(chain[0])}",
            not fault,
            "certificates",
        ),
        next((check for check in times if not check.passed), times[0]),
    ]


def _leaf_rule(certificate: x509.Certificate) -> str:
    usage = extension(certificate, x509.KeyUsage)
    return "" if usage is not None and usage.digital_signature else "may not sign data"


PROFILE = Profile(range(2, MAX_CERTIFICATES + 1), (ALGORITHM,), (Place(rule=_leaf_rule), Place()))


def _bad_key(what: str, seen: str) -> FormatError:
    return FormatError(
        "bad-key",
        f"the key of the {what} certificate is of the wrong kind",
        expected="P-384",
        seen=seen,
    )
