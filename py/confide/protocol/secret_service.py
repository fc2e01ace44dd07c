"""The secret service's messages: deterministic CBOR maps in HTTP bodies, each read strictly.

Sealed keys themselves are in protocol/keyexchange.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from confide.encoding.messages import CborMessage
from confide.encoding.x509 import MAX_DER
from confide.protocol.keyexchange import (
    KEM_PUBLIC_SIZE,
    KEY_ID_SIZE,
    KEY_LIFETIME,
    KEY_SIZE,
    MAX_MODELS,
)
from measure.kinds import Blob, Integer, ListOf, Name

MAX_REPLY = 4 * MAX_DER


@dataclass(frozen=True)
class KeyExchangeReply(CborMessage, what="the key exchange reply", limit=MAX_REPLY):
    """GET /v1/key-exchange: the public key to seal to, and the certificates that vouch for it.

    `verify/service.py` decides whether to trust it.
    """

    certificate: Annotated[bytes, Blob(max_size=MAX_DER)]
    mesh_ca: Annotated[bytes, Blob(max_size=MAX_DER)]
    root_ca: Annotated[bytes, Blob(max_size=MAX_DER)]
    kem_public_key: Annotated[bytes, Blob(KEM_PUBLIC_SIZE)]


@dataclass(frozen=True)
class KeyAccepted(CborMessage, what="the key answer", limit=256):
    """The answer of POST /v1/keys: the key's id and the seconds it will be kept."""

    key_id: Annotated[bytes, Blob(KEY_ID_SIZE)]
    expires_in: Annotated[int, Integer(maximum=KEY_LIFETIME)]


@dataclass(frozen=True)
class ReleasedKey(CborMessage, what="the released key", limit=MAX_REPLY):
    """GET /v1/keys/<id> between members: the key, its models, the seconds it is still valid."""

    key: Annotated[bytes, Blob(KEY_SIZE)]
    models: Annotated[tuple[str, ...], ListOf(Name(), max_items=MAX_MODELS, unique=True)]
    expires_in: Annotated[int, Integer(maximum=KEY_LIFETIME)]

    def __repr__(self) -> str:
        # The generated one would put the key into logs and tracebacks.
        return f"ReleasedKey(models={self.models!r}, expires_in={self.expires_in})"
