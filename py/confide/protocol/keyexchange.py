"""The key of a model: how a client seals it to a secret service, and what a worker gets of it.

A client makes one key M for each model. Secret services hold M, and a worker gets only K_w, which
is M's image under the worker's own public key. M's name, the key id, is an image of M as well, so
every secret service knows it by one name.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confide.encoding.messages import CborMessage
from confide.errors import FormatError, VerificationError
from confide.protocol.bill import MAX_BILLING, billing_of
from confide.protocol.kem import ENC_SIZE, KemPrivateKey, seal_to
from confide.protocol.validity import CLOCK_TOLERANCE
from measure.kinds import Blob, Integer, Name

KEY_LABEL = b"confide/key/2"
KEY_ID_INFO = b"confide/key-id/2"
WORKER_KEY_INFO = b"confide/worker-key/2"

KEY_SIZE = 32
KEY_ID_SIZE = 32
WORKER_ID_SIZE = 32
KEM_HASH_SIZE = 32
MAX_MESSAGE = 16384

KEY_LIFETIME = 3600
KEY_REPLACE_AFTER = 2700
CLOCK_SKEW = 2 * CLOCK_TOLERANCE
"""How far a client's clock may be ahead of the secret service's: each has been compared with the
coordinator's, and one may be ahead of it and the other behind.
"""


@dataclass(frozen=True)
class InferenceKey(CborMessage, what="the inference key"):
    """A client's key: 32 secret bytes, its model, when it was made (unix), who pays.

    `billing` is empty, or a `bill.Billing`.
    """

    key: Annotated[bytes, Blob(KEY_SIZE)]
    model: Annotated[str, Name()]
    issued: Annotated[int, Integer()]
    billing: Annotated[bytes, Blob(max_size=MAX_BILLING)] = b""

    def __repr__(self) -> str:
        # The generated one would put the key into logs and tracebacks.
        return f"InferenceKey(model={self.model!r}, issued={self.issued})"

    @property
    def key_id(self) -> bytes:
        """The key's name, 32 bytes."""
        return key_id_of(self.key)


@dataclass(frozen=True)
class SealedKeyMessage(CborMessage, what="the sealed key", limit=MAX_MESSAGE):
    """The body of POST /v1/keys: SHA-256 of the KEM key, HPKE's encapsulated key and ciphertext."""

    kem_sha256: Annotated[bytes, Blob(KEM_HASH_SIZE)]
    enc: Annotated[bytes, Blob(ENC_SIZE)]
    ciphertext: Annotated[bytes, Blob(max_size=MAX_MESSAGE)]


@dataclass(frozen=True)
class OpenedKey:
    """What a secret service found in a key message. `billing` is 0 or 32 bytes: who pays."""

    key: bytes
    key_id: bytes
    model: str
    issued: int
    billing: bytes

    def __repr__(self) -> str:
        return f"OpenedKey(model={self.model!r}, issued={self.issued})"


def seal_key(key: InferenceKey, kem_public_key: bytes, *, manifest_sha256: bytes) -> bytes:
    """The key message for one secret service, whose KEM public key has 1,216 bytes.

    The caller has checked that a mesh certificate of role secret-service names the KEM key. Raises
    FormatError `bad-key`.
    """
    if len(key.key) != KEY_SIZE:
        raise FormatError(
            "bad-key",
            "the inference key has the wrong size",
            expected=f"{KEY_SIZE} bytes",
            seen=f"{len(key.key)} bytes",
        )
    sealed = seal_to(kem_public_key, key.encode(), label=KEY_LABEL, manifest_sha256=manifest_sha256)
    return SealedKeyMessage(
        sha256(kem_public_key).digest(), sealed[:ENC_SIZE], sealed[ENC_SIZE:]
    ).encode()


def open_key(
    message: SealedKeyMessage, kem: KemPrivateKey, *, manifest_sha256: bytes, now: int
) -> OpenedKey:
    """Open a key message. `now` is in unix seconds.

    Raises:
        FormatError: What is sealed is malformed.
        VerificationError: `bad-key-seal` if it does not open under this key and manifest,
            `stale-key` if it is an hour old or over ten minutes in the future, `bad-billing` if
            the payer's signature is wrong.
    """
    if message.kem_sha256 != kem.sha256:
        raise VerificationError(
            "bad-key-seal",
            "the sealed key is for another KEM key",
            expected=kem.sha256.hex(),
            seen=message.kem_sha256.hex(),
        )
    key = InferenceKey.parse(
        kem.open(message.enc + message.ciphertext, label=KEY_LABEL, manifest_sha256=manifest_sha256)
    )
    if not now - KEY_LIFETIME < key.issued <= now + CLOCK_SKEW:
        raise VerificationError(
            "stale-key",
            "the sealed key is not from the last hour",
            expected=f"after {now - KEY_LIFETIME} and by {now + CLOCK_SKEW}",
            seen=str(key.issued),
            next="check the clock and seal a new key",
        )
    billing = billing_of(key.billing, key_id=key.key_id, manifest_sha256=manifest_sha256)
    return OpenedKey(key.key, key.key_id, key.model, key.issued, billing)


def key_id_of(key: bytes) -> bytes:
    """The name of a key of 32 bytes: 32 bytes that say nothing about it."""
    return HKDF(SHA256(), KEY_ID_SIZE, None, KEY_ID_INFO).derive(key)


def worker_id_of(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """The name of a machine with this mesh key: SHA-256 of the SubjectPublicKeyInfo, 32 bytes."""
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(spki).digest()


def worker_key(key: bytes, *, worker: bytes, model: str) -> bytes:
    """K_w: what one worker (32 bytes, `worker_id_of`) gets of a model's key. 32 bytes."""
    return HKDF(SHA256(), KEY_SIZE, worker, WORKER_KEY_INFO + model.encode()).derive(key)
