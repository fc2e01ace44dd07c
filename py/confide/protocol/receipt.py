"""Receipts: a worker's signature over what it was asked and what it answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from confide.encoding.messages import CborMessage
from confide.protocol.usage import Usage
from measure.kinds import Blob, Integer, Name

SIGNATURE_LABEL = b"confide/receipt/2\0"
HASH_SIZE = 32
MAX_STATEMENT = 4096
MAX_RECEIPT = 32768


@dataclass(frozen=True)
class Statement(CborMessage, what="the receipt's statement", limit=MAX_STATEMENT):
    """What a worker vouches for. Hashes are SHA-256, `time` is unix seconds.

    `request_sha256` is over the sealed request body, `response_sha256` over the answer's bytes. The
    encoded statement, after the label, is what the worker signs.
    """

    request_sha256: Annotated[bytes, Blob(HASH_SIZE)]
    response_sha256: Annotated[bytes, Blob(HASH_SIZE)]
    manifest_sha256: Annotated[bytes, Blob(HASH_SIZE)]
    model: Annotated[str, Name()]
    model_root_hash: Annotated[bytes, Blob(HASH_SIZE)]
    time: Annotated[int, Integer()]
    usage: Usage


@dataclass(frozen=True)
class Receipt(CborMessage, what="the receipt", limit=MAX_RECEIPT):
    """A signed statement: the content of the final frame. It proves nothing until it is verified.

    `statement` is an encoded `Statement`, `signature` is ECDSA P-256 SHA-256 (DER) over
    "confide/receipt/2" ‖ 0x00 ‖ statement, `certificate` is the worker's mesh leaf (DER).
    """

    statement: Annotated[bytes, Blob(max_size=MAX_STATEMENT)]
    signature: Annotated[bytes, Blob(max_size=128)]
    certificate: Annotated[bytes, Blob(max_size=16384)]


def sign_receipt(
    statement: Statement, key: ec.EllipticCurvePrivateKey, certificate: bytes
) -> bytes:
    """Sign with the worker's mesh key: the encoded receipt."""
    encoded = statement.encode()
    signature = key.sign(SIGNATURE_LABEL + encoded, ec.ECDSA(hashes.SHA256()))
    return Receipt(encoded, signature, certificate).encode()
