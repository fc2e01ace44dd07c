"""The secret service's messages: deterministic CBOR maps in HTTP bodies, each read strictly.

Sealed keys themselves are in protocol/keyexchange.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from confide.encoding.messages import CborMessage
from confide.encoding.x509 import MAX_DER
from confide.errors import FormatError
from confide.protocol.kem import KEM_PUBLIC_SIZE
from confide.protocol.keyexchange import KEY_ID_SIZE, KEY_LIFETIME, KEY_SIZE
from measure.declare import Nested
from measure.kinds import Blob, Converted, Integer, ListOf, Name

MAX_SERVICES = 8
MAX_OFFER = 2 * MAX_DER
MAX_REPLY = MAX_SERVICES * MAX_OFFER


@dataclass(frozen=True)
class KeyOffer(CborMessage, what="the secret service's offer", limit=MAX_OFFER):
    """GET /v1/key-exchange: the public key to seal to, and the certificate that names it.

    `verify/service.py` decides whether to trust it.
    """

    certificate: Annotated[bytes, Blob(max_size=MAX_DER)]
    kem_public_key: Annotated[bytes, Blob(KEM_PUBLIC_SIZE)]


@dataclass(frozen=True)
class KeyExchangeReply(CborMessage, what="the key exchange reply", limit=MAX_REPLY):
    """GET /confide/v1/key-exchange: the offers of all secret services that a gateway knows."""

    services: Annotated[tuple[KeyOffer, ...], ListOf(Nested(KeyOffer), MAX_SERVICES)]


@dataclass(frozen=True)
class KeyAccepted(CborMessage, what="the key answer", limit=256):
    """The answer of POST /v1/keys: the key's id and the seconds it will be kept."""

    key_id: Annotated[bytes, Blob(KEY_ID_SIZE)]
    expires_in: Annotated[int, Integer(maximum=KEY_LIFETIME)]


def _payer(value: bytes) -> bytes:
    if len(value) not in (0, 32):
        raise FormatError("bad-field", "the payer is not a hash", seen=f"{len(value)} bytes")
    return value


@dataclass(frozen=True)
class ReleasedKey(CborMessage, what="the released key", limit=1024):
    """GET /v1/keys/<id> between members: the key of that worker, not the client's.

    `billing` names the payer (32 bytes), or is empty.
    """

    key: Annotated[bytes, Blob(KEY_SIZE)]
    model: Annotated[str, Name()]
    expires_in: Annotated[int, Integer(maximum=KEY_LIFETIME)]
    billing: Annotated[bytes, Converted(Blob(max_size=32), read=_payer, write=bytes)] = b""

    def __repr__(self) -> str:
        # The generated one would put the key into logs and tracebacks.
        return f"ReleasedKey(model={self.model!r}, expires_in={self.expires_in})"
