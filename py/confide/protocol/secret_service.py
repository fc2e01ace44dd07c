"""The secret service's messages: deterministic CBOR maps in HTTP bodies, each read strictly.

Sealed keys themselves are in formats/keyexchange.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from confide.encoding.canonical import cbor_decode, cbor_encode
from confide.encoding.fields import Fields
from confide.encoding.x509 import MAX_DER
from confide.protocol.keyexchange import (
    KEM_PUBLIC_SIZE,
    KEY_ID_SIZE,
    KEY_LIFETIME,
    KEY_SIZE,
    MAX_MODELS,
)

MAX_REPLY = 4 * MAX_DER


@dataclass(frozen=True)
class KeyExchangeReply:
    """GET /v1/key-exchange: the public key to seal to, and the certificates that vouch for it."""

    certificate: bytes
    mesh_ca: bytes
    root_ca: bytes
    kem_public_key: bytes

    def encode(self) -> bytes:
        """As CBOR."""
        return cbor_encode(
            {
                "certificate": self.certificate,
                "mesh_ca": self.mesh_ca,
                "root_ca": self.root_ca,
                "kem_public_key": self.kem_public_key,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> KeyExchangeReply:
        """Raises FormatError. Whether to trust it: verify/service.py."""
        message = cbor_decode(data, what="key exchange reply", limit=MAX_REPLY)
        fields = Fields(message, "the key exchange reply")
        reply = cls(
            certificate=fields.blob("certificate", max_length=MAX_DER),
            mesh_ca=fields.blob("mesh_ca", max_length=MAX_DER),
            root_ca=fields.blob("root_ca", max_length=MAX_DER),
            kem_public_key=fields.blob("kem_public_key", length=KEM_PUBLIC_SIZE),
        )
        fields.done()
        return reply


@dataclass(frozen=True)
class KeyAccepted:
    """The answer of POST /v1/keys: the key's id and the seconds it will be kept."""

    key_id: bytes
    expires_in: int

    def encode(self) -> bytes:
        """As CBOR."""
        return cbor_encode({"key_id": self.key_id, "expires_in": self.expires_in})

    @classmethod
    def parse(cls, data: bytes) -> KeyAccepted:
        """Raises FormatError."""
        fields = Fields(cbor_decode(data, what="key answer", limit=256), "the key answer")
        accepted = cls(
            key_id=fields.blob("key_id", length=KEY_ID_SIZE),
            expires_in=fields.integer("expires_in", maximum=KEY_LIFETIME),
        )
        fields.done()
        return accepted


@dataclass(frozen=True)
class ReleasedKey:
    """GET /v1/keys/<id> between members: the key, its models, the seconds it is still valid."""

    key: bytes
    models: tuple[str, ...]
    expires_in: int

    def __repr__(self) -> str:
        # The generated one would put the key into logs and tracebacks.
        return f"ReleasedKey(models={self.models!r}, expires_in={self.expires_in})"

    def encode(self) -> bytes:
        """As CBOR."""
        return cbor_encode(
            {
                "key": self.key,
                "models": list(self.models),
                "expires_in": self.expires_in,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> ReleasedKey:
        """Raises FormatError."""
        message = cbor_decode(data, what="released key", limit=MAX_REPLY)
        fields = Fields(message, "the released key")
        released = cls(
            key=fields.blob("key", length=KEY_SIZE),
            models=fields.names("models", max_items=MAX_MODELS),
            expires_in=fields.integer("expires_in", maximum=KEY_LIFETIME),
        )
        fields.done()
        return released
