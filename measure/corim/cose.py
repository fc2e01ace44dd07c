"""Signed CoRIM: COSE_Sign1 (RFC 9052, section 4) without the cryptography.

`to_be_signed` gives the bytes that a signature has to cover; `assemble` takes those bytes, which
already say all that the signed file holds, and the signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from measure import cbor
from measure.cbor import Tag
from measure.corim import rules
from measure.der import ecdsa_signature
from measure.errors import FormatError, InputError

_ALGORITHM, _CONTENT_TYPE, _META, _CWT_CLAIMS = 1, 3, 8, 15
_ISSUER = 1


class Algorithm(IntEnum):
    """COSE algorithm numbers (RFC 9053, section 2.1)."""

    ES256 = -7
    ES384 = -35

    @property
    def coordinate(self) -> int:
        """Bytes in each of the two numbers of a signature."""
        return {Algorithm.ES256: 32, Algorithm.ES384: 48}[self]


@dataclass(frozen=True)
class Signed:
    """A signed CoRIM taken apart.

    Attributes:
        algorithm: what the signature was made with.
        signer: the name in the protected header; trust the key, not the name.
        payload: the CoRIM, tag included.
        to_be_signed: the bytes that the signature covers.
        signature: r then s, big-endian, each as long as the curve's coordinate.
    """

    algorithm: Algorithm
    signer: str
    payload: bytes
    to_be_signed: bytes
    signature: bytes


def to_be_signed(payload: bytes, algorithm: Algorithm, signer: str, file: str) -> bytes:
    """The Sig_structure (RFC 9052, section 4.4) for an encoded CoRIM.

    Raises:
        FormatError: `payload` (named `file`) is no CoRIM.
        InputError: no name of a signer.
    """
    if not signer:
        raise InputError("the signer has no name", expected="a name")
    rules.corim(cbor.decode(payload, file), file)
    header = {
        _ALGORITHM: int(algorithm),
        _CONTENT_TYPE: rules.CONTENT_TYPE,
        _CWT_CLAIMS: {_ISSUER: signer},
    }
    return _structure(cbor.encode(header), payload)


def assemble(structure: bytes, signature: bytes, file: str, signature_file: str) -> bytes:
    """The signed CoRIM.

    Args:
        structure: the output of `to_be_signed`.
        signature: over that, as (r, s) or in DER, which is what most programs write.
        file: the name of `structure` in errors.
        signature_file: the name of `signature` in errors.

    Raises:
        FormatError: one of them is malformed.
    """
    value = cbor.decode(structure, file)
    rules.to_be_signed(value, file)
    _, protected, _, payload = value
    algorithm, _ = _header(protected, file)
    raw = _raw_signature(signature, algorithm, signature_file)
    return cbor.encode(Tag(rules.TAG_COSE_SIGN1, [protected, {}, payload, raw]))


def parse(data: bytes, file: str) -> Signed:
    """Takes a signed CoRIM apart; the signature is not verified.

    Raises:
        FormatError: anything that is not a COSE_Sign1 with a CoRIM inside.
    """
    value = cbor.decode(data, file)
    rules.signed(value, file)
    protected, _, payload, signature = value.value
    algorithm, signer = _header(protected, file)
    if len(signature) != 2 * algorithm.coordinate:
        raise FormatError(
            "the signature has the wrong size",
            file=file,
            expected=f"{2 * algorithm.coordinate} bytes for {algorithm.name}",
            seen=f"{len(signature)} bytes",
        )
    return Signed(algorithm, signer, payload, _structure(protected, payload), signature)


def _structure(protected: bytes, payload: bytes) -> bytes:
    return cbor.encode(["Signature1", protected, b"", payload])


def _header(protected: bytes, file: str) -> tuple[Algorithm, str]:
    """Algorithm and signer. `grammar` has checked each member; this checks that they agree."""
    header: dict[Any, Any] = cbor.decode(protected, file)
    try:
        algorithm = Algorithm(header[_ALGORITHM])
    except ValueError:
        raise FormatError(
            "an unknown signature algorithm",
            file=file,
            expected=" or ".join(f"{a.value} ({a.name})" for a in Algorithm),
            seen=str(header[_ALGORITHM]),
        ) from None
    names = set()
    if _META in header:
        names.add(cbor.decode(header[_META], file)[0][0])
    if _CWT_CLAIMS in header:
        names.add(header[_CWT_CLAIMS][_ISSUER])
    if len(names) != 1:
        raise FormatError(
            "the protected header does not name one signer",
            file=file,
            expected="CWT-Claims, corim-meta, or both with the same name",
            seen=", ".join(sorted(names)) or "neither",
        )
    return algorithm, names.pop()


def _raw_signature(signature: bytes, algorithm: Algorithm, file: str) -> bytes:
    """(r, s) of fixed size, from that or from DER."""
    size = algorithm.coordinate
    if len(signature) == 2 * size:
        return signature
    numbers = ecdsa_signature(signature, size, file)
    return b"".join(number.to_bytes(size, "big") for number in numbers)
