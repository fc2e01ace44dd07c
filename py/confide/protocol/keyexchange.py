"""Key exchange: a client seals its inference key to the secret service with HPKE (RFC 9180).

Base mode; KEM MLKEM768-X25519 (X-Wing), KDF HKDF-SHA256, AEAD AES-256-GCM. The manifest's hash is
in the HPKE `info`, so a key sealed under one manifest cannot be opened under another.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from confide.encoding.messages import CborMessage
from confide.errors import FormatError, VerificationError
from measure.kinds import Blob, Integer, ListOf, Name

INFO_LABEL = b"confide/key/1"
KEY_SIZE = 32
KEY_ID_SIZE = 32
MLKEM_PUBLIC_SIZE = 1184
X25519_PUBLIC_SIZE = 32
KEM_PUBLIC_SIZE = MLKEM_PUBLIC_SIZE + X25519_PUBLIC_SIZE
ENC_SIZE = 1088 + X25519_PUBLIC_SIZE
MAX_MESSAGE = 16384
MAX_MODELS = 64

KEY_LIFETIME = 3600
KEY_REPLACE_AFTER = 2700
# How far a client's clock may be ahead of the secret service's.
CLOCK_SKEW = 300

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@dataclass(frozen=True)
class InferenceKey(CborMessage, what="the inference key"):
    """A client's key: 32 secret bytes, the models it may be used for, when it was made (unix)."""

    key: Annotated[bytes, Blob(KEY_SIZE)]
    models: Annotated[tuple[str, ...], ListOf(Name(), max_items=MAX_MODELS, unique=True)]
    issued: Annotated[int, Integer()]

    def __repr__(self) -> str:
        # The generated one would put the key into logs and tracebacks.
        return f"InferenceKey(models={self.models!r}, issued={self.issued})"


@dataclass(frozen=True)
class _SealedKeyMessage(CborMessage, what="the sealed key", limit=MAX_MESSAGE):
    """The body of POST /v1/keys: HPKE's encapsulated key and ciphertext."""

    enc: Annotated[bytes, Blob(ENC_SIZE)]
    ciphertext: Annotated[bytes, Blob()]


@dataclass(frozen=True)
class SealedKey:
    """A sealed key message (the body of POST /v1/keys) and the key's 32-byte id."""

    message: bytes
    key_id: bytes


class KemPrivateKey:
    """The secret service's HPKE key pair, in RAM only."""

    def __init__(self, mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> None:
        self._key = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public_bytes = (
            mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        )

    @classmethod
    def generate(cls) -> KemPrivateKey:
        """A fresh key pair from the system's random numbers."""
        return cls(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())

    def open_key(
        self, message: bytes, *, manifest_sha256: bytes, now: int
    ) -> tuple[InferenceKey, bytes]:
        """Open a sealed key message: (the inference key, its 32-byte id).

        A message of over an hour ago could be a replay: it would revive a key whose used salts are
        forgotten.

        Args:
            message: the body of POST /v1/keys.
            manifest_sha256: SHA-256 of the manifest, 32 bytes.
            now: unix seconds.

        Raises:
            FormatError: the message is malformed.
            VerificationError: `bad-key-seal` if it does not open under this key and manifest,
                `stale-key` if it is over an hour old or over five minutes in the future.
        """
        sealed = _SealedKeyMessage.parse(message)
        ciphertext, info = sealed.enc + sealed.ciphertext, _info(manifest_sha256)
        try:
            plaintext = _SUITE.decrypt(ciphertext, self._key, info=info)
        except (InvalidTag, ValueError) as error:
            raise VerificationError(
                "bad-key-seal",
                "the sealed key does not open",
                expected="a key sealed to this secret service under its manifest",
                next="fetch the key exchange key again and seal a new key",
            ) from error
        key = InferenceKey.parse(plaintext)
        if not now - KEY_LIFETIME < key.issued <= now + CLOCK_SKEW:
            raise VerificationError(
                "stale-key",
                "the sealed key is not from the last hour",
                expected=f"after {now - KEY_LIFETIME} and by {now + CLOCK_SKEW}",
                seen=str(key.issued),
                next="check the clock and seal a new key",
            )
        return key, key_id_of(sealed.enc)


def seal_key(key: InferenceKey, kem_public_key: bytes, *, manifest_sha256: bytes) -> SealedKey:
    """Seal `key` to a secret service's public key (1,216 bytes: ML-KEM-768, then X25519).

    The caller has checked that a mesh certificate of role secret-service vouches for the key.
    Raises FormatError for a malformed public key.
    """
    public = load_kem_public_key(kem_public_key)
    if len(key.key) != KEY_SIZE:
        raise FormatError(
            "bad-key",
            "the inference key has the wrong size",
            expected=f"{KEY_SIZE} bytes",
            seen=f"{len(key.key)} bytes",
        )
    sealed = _SUITE.encrypt(key.encode(), public, info=_info(manifest_sha256))
    enc, ciphertext = sealed[:ENC_SIZE], sealed[ENC_SIZE:]
    return SealedKey(_SealedKeyMessage(enc, ciphertext).encode(), key_id_of(enc))


def load_kem_public_key(data: bytes) -> MLKEM768X25519PublicKey:
    """Read a KEM public key of 1,216 bytes. Raises FormatError."""
    if len(data) != KEM_PUBLIC_SIZE:
        raise FormatError(
            "bad-key",
            "the KEM public key has the wrong size",
            expected=f"{KEM_PUBLIC_SIZE} bytes",
            seen=f"{len(data)} bytes",
        )
    try:
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(data[:MLKEM_PUBLIC_SIZE]),
            X25519PublicKey.from_public_bytes(data[MLKEM_PUBLIC_SIZE:]),
        )
    except ValueError as error:
        raise FormatError("bad-key", "the KEM public key is invalid") from error


def key_id_of(enc: bytes) -> bytes:
    """SHA-256 of the encapsulated key (1,120 bytes): 32 bytes."""
    return sha256(enc).digest()


def _info(manifest_sha256: bytes) -> bytes:
    if len(manifest_sha256) != 32:
        raise FormatError(
            "bad-hash",
            "the manifest hash has the wrong size",
            expected="32 bytes",
            seen=f"{len(manifest_sha256)} bytes",
        )
    return INFO_LABEL + manifest_sha256
