"""Receipts: a worker's signature over what it was asked and what it answered."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from confide.encoding.canonical import cbor_decode, cbor_encode
from confide.encoding.fields import Fields

SIGNATURE_LABEL = b"confide/receipt/1\0"
HASH_SIZE = 32
MAX_RECEIPT = 32768


@dataclass(frozen=True)
class Statement:
    """What a worker vouches for. Hashes are SHA-256, `time` is unix seconds.

    `request_sha256` is over the sealed request body, `response_sha256` over the content of all data
    frames in order.
    """

    request_sha256: bytes
    response_sha256: bytes
    manifest_sha256: bytes
    model: str
    model_root_hash: bytes
    time: int
    prompt_tokens: int
    completion_tokens: int

    def encode(self) -> bytes:
        """The statement as deterministic CBOR: the bytes that are signed, after the label."""
        return cbor_encode(
            {
                "request_sha256": self.request_sha256,
                "response_sha256": self.response_sha256,
                "manifest_sha256": self.manifest_sha256,
                "model": self.model,
                "model_root_hash": self.model_root_hash,
                "time": self.time,
                "usage": {
                    "prompt_tokens": self.prompt_tokens,
                    "completion_tokens": self.completion_tokens,
                },
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Statement:
        """Raises FormatError for anything but exactly this map."""
        what = "receipt statement"
        fields = Fields(cbor_decode(data, what=what, limit=4096), what)
        usage = fields.map("usage")
        statement = cls(
            request_sha256=fields.blob("request_sha256", length=HASH_SIZE),
            response_sha256=fields.blob("response_sha256", length=HASH_SIZE),
            manifest_sha256=fields.blob("manifest_sha256", length=HASH_SIZE),
            model=fields.name("model"),
            model_root_hash=fields.blob("model_root_hash", length=HASH_SIZE),
            time=fields.integer("time"),
            prompt_tokens=usage.integer("prompt_tokens"),
            completion_tokens=usage.integer("completion_tokens"),
        )
        usage.done()
        fields.done()
        return statement


@dataclass(frozen=True)
class Receipt:
    """A signed statement: CBOR {statement, signature, certificate}.

    `statement` is an encoded `Statement`, `signature` is ECDSA P-256 SHA-256 (DER) over
    "confide/receipt/1" ‖ 0x00 ‖ statement, `certificate` is the worker's mesh leaf (DER).
    """

    statement: bytes
    signature: bytes
    certificate: bytes

    def encode(self) -> bytes:
        """The receipt as deterministic CBOR: the content of the final frame."""
        return cbor_encode(
            {
                "statement": self.statement,
                "signature": self.signature,
                "certificate": self.certificate,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Receipt:
        """Raises FormatError for anything but exactly this map. Proves nothing by itself."""
        fields = Fields(cbor_decode(data, what="receipt", limit=MAX_RECEIPT), "receipt")
        receipt = cls(
            statement=fields.blob("statement", max_length=4096),
            signature=fields.blob("signature", max_length=128),
            certificate=fields.blob("certificate", max_length=16384),
        )
        fields.done()
        return receipt


def sign_receipt(
    statement: Statement, key: ec.EllipticCurvePrivateKey, certificate: bytes
) -> bytes:
    """Sign with the worker's mesh key: the encoded receipt."""
    encoded = statement.encode()
    signature = key.sign(SIGNATURE_LABEL + encoded, ec.ECDSA(hashes.SHA256()))
    return Receipt(encoded, signature, certificate).encode()
