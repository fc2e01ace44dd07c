"""Signed CoRIM: the signature over the bytes that `measure.corim.cose` names.

COSE_Sign1 (RFC 9052, section 4.4) with ECDSA (RFC 9053, section 2.1): ES256 with a P-256 key, ES384
with a P-384 key. A signature is r then s, big-endian, each as long as the curve's coordinate.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from confide.errors import ConfigError, FormatError, VerificationError
from measure.corim import cose
from measure.errors import MeasureError

_HASHES = {cose.Algorithm.ES256: hashes.SHA256(), cose.Algorithm.ES384: hashes.SHA384()}
_ALGORITHMS = {"secp256r1": cose.Algorithm.ES256, "secp384r1": cose.Algorithm.ES384}


def sign(corim: bytes, key: ec.EllipticCurvePrivateKey, signer: str) -> bytes:
    """Sign an unsigned CoRIM (CBOR tag 501); `signer` is a name for readers.

    Raises:
        FormatError: `corim` is malformed, or `signer` is empty.
        ConfigError: The key's curve is neither P-256 nor P-384.
    """
    algorithm = _algorithm(key.curve)
    try:
        structure = cose.to_be_signed(corim, algorithm, signer, "CoRIM")
        signature = key.sign(structure, ec.ECDSA(_HASHES[algorithm]))
        return cose.assemble(structure, signature, "CoRIM", "signature")
    except MeasureError as error:
        raise FormatError("bad-corim", "this CoRIM cannot be signed", seen=str(error)) from error


def verify(signed: bytes, key: ec.EllipticCurvePublicKey) -> bytes:
    """Verify a signed CoRIM, and return the CoRIM (tag 501) in it.

    Raises:
        FormatError: `signed` is malformed.
        ConfigError: The key's curve is neither P-256 nor P-384.
        VerificationError: Another key made the signature.
    """
    algorithm = _algorithm(key.curve)
    try:
        parsed = cose.parse(signed, "CoRIM")
    except MeasureError as error:
        raise FormatError("bad-corim", "the file is not a signed CoRIM", seen=str(error)) from error
    # The key decides the algorithm, and the file has to agree.
    if parsed.algorithm is not algorithm:
        raise VerificationError(
            "corim-algorithm",
            "the CoRIM is signed with another kind of key",
            expected=algorithm.name,
            seen=parsed.algorithm.name,
        )
    size = algorithm.coordinate
    r = int.from_bytes(parsed.signature[:size], "big")
    s = int.from_bytes(parsed.signature[size:], "big")
    try:
        key.verify(encode_dss_signature(r, s), parsed.to_be_signed, ec.ECDSA(_HASHES[algorithm]))
    except InvalidSignature as error:
        raise VerificationError(
            "corim-signature",
            "another key signed the CoRIM",
            next="get the signer's key again, from where it is published",
        ) from error
    return parsed.payload


def _algorithm(curve: ec.EllipticCurve) -> cose.Algorithm:
    try:
        return _ALGORITHMS[curve.name]
    except KeyError:
        raise ConfigError(
            "bad-signing-key",
            "this key cannot sign a CoRIM",
            expected="an elliptic curve key, P-256 or P-384",
            seen=curve.name,
        ) from None
