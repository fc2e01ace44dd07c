"""Who pays, and bills: a worker's signature over what it did for a payer.

Nothing sends these yet; docs/protocol.md, sections 7 and 9, fixes their bytes. A payer is the
SHA-256 of a public key. Only the key's holder can name it in a key message, so nobody else causes
bills in its name.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confide.encoding.messages import CborMessage
from confide.errors import FormatError, VerificationError
from confide.protocol.certificates import load_public_key
from confide.protocol.usage import Usage
from measure.kinds import Blob, Integer, Name

BILLING_LABEL = b"confide/billing/2\0"
BILL_LABEL = b"confide/bill/2\0"
MAX_BILLING = 512
MAX_BILL = 32768
TRAILER_MAGIC = b"bill"

_HASH = Blob(32)
_TRAILER = struct.Struct(">I4s")
_RECORD_PREFIX = 5
_ECDSA = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True)
class Billing(CborMessage, what="the payer", limit=MAX_BILLING):
    """Who pays for the requests under one key: SPKI DER of a P-256 key, and its signature."""

    public_key: Annotated[bytes, Blob(max_size=256)]
    signature: Annotated[bytes, Blob(max_size=128)]


def sign_billing(
    key: ec.EllipticCurvePrivateKey, *, key_id: bytes, manifest_sha256: bytes
) -> Billing:
    """Name `key` as the payer for requests under the key with this id (32 bytes)."""
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Billing(spki, key.sign(BILLING_LABEL + key_id + manifest_sha256, _ECDSA))


def billing_of(billing: bytes, *, key_id: bytes, manifest_sha256: bytes) -> bytes:
    """The payer that a key message names: 32 bytes, empty for none.

    Raises FormatError if it is malformed, VerificationError `bad-billing` for a wrong signature.
    """
    if not billing:
        return b""
    parsed = Billing.parse(billing)
    try:
        load_public_key(parsed.public_key, "payer's").verify(
            parsed.signature, BILLING_LABEL + key_id + manifest_sha256, _ECDSA
        )
    except InvalidSignature as error:
        raise VerificationError(
            "bad-billing",
            "the payer's signature is wrong",
            expected="a signature over this key and manifest",
        ) from error
    return sha256(parsed.public_key).digest()


@dataclass(frozen=True)
class BillStatement(CborMessage, what="the bill's statement", limit=4096):
    """What a worker did for a payer. `time` is unix seconds, hashes are as in a receipt."""

    billing: Annotated[bytes, _HASH]
    request_sha256: Annotated[bytes, _HASH]
    manifest_sha256: Annotated[bytes, _HASH]
    model: Annotated[str, Name()]
    time: Annotated[int, Integer()]
    usage: Usage


@dataclass(frozen=True)
class Bill(CborMessage, what="the bill", limit=MAX_BILL):
    """A signed statement. It proves nothing until somebody verifies signature and certificate."""

    statement: Annotated[bytes, Blob(max_size=4096)]
    signature: Annotated[bytes, Blob(max_size=128)]
    certificate: Annotated[bytes, Blob(max_size=16384)]

    def to_payload(self) -> bytes:
        """The bill record's payload: the bill, and a trailer of 8 bytes to find it from its end."""
        encoded = self.encode()
        return encoded + _trailer(len(encoded))

    @classmethod
    def from_payload(cls, payload: bytes) -> Bill:
        """Read a bill record's payload. Raises FormatError."""
        encoded = payload[: -_TRAILER.size]
        if len(payload) > MAX_BILL or payload[-_TRAILER.size :] != _trailer(len(encoded)):
            raise FormatError(
                "bad-record",
                "the bill's trailer is wrong",
                expected="the record's length and the text bill",
                seen=f"{len(payload)} bytes",
            )
        return cls.parse(encoded)


def _trailer(size: int) -> bytes:
    return _TRAILER.pack(_RECORD_PREFIX + size + _TRAILER.size, TRAILER_MAGIC)
