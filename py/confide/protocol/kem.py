"""HPKE (RFC 9180) to the KEM key that a mesh certificate names.

Base mode, single shot, empty AAD; KEM MLKEM768-X25519 (X-Wing), KDF HKDF-SHA256, AEAD AES-256-GCM.
The purpose and the manifest's hash are in `info`: what was sealed for one purpose or under one
manifest does not open for another.
"""

from __future__ import annotations

from hashlib import sha256

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

from confide.errors import FormatError, VerificationError

MLKEM_PUBLIC_SIZE = 1184
X25519_PUBLIC_SIZE = 32
KEM_PUBLIC_SIZE = MLKEM_PUBLIC_SIZE + X25519_PUBLIC_SIZE
ENC_SIZE = 1088 + X25519_PUBLIC_SIZE
TAG_SIZE = 16

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class KemPrivateKey:
    """One KEM key pair, in RAM only."""

    def __init__(self, mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> None:
        self._key = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public_bytes = (
            mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        )
        self.sha256 = sha256(self.public_bytes).digest()

    @classmethod
    def generate(cls) -> KemPrivateKey:
        """A new key pair from the system's random numbers."""
        return cls(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())

    def open(self, sealed: bytes, *, label: bytes, manifest_sha256: bytes) -> bytes:
        """The plaintext of `enc ‖ ciphertext`. Raises VerificationError `bad-key-seal`."""
        try:
            return _SUITE.decrypt(sealed, self._key, info=_info(label, manifest_sha256))
        except (InvalidTag, ValueError) as error:
            raise VerificationError(
                "bad-key-seal",
                "what was sealed to this machine does not open",
                expected="a seal to its KEM key, for this purpose and under its manifest",
                next="fetch the certificate and the KEM key again, and seal again",
            ) from error


def seal_to(
    kem_public_key: bytes, plaintext: bytes, *, label: bytes, manifest_sha256: bytes
) -> bytes:
    """`enc ‖ ciphertext` of `plaintext` for a public key of 1,216 bytes.

    The caller has checked that a mesh certificate of the right role names the key. Raises
    FormatError `bad-key`.
    """
    public = load_kem_public_key(kem_public_key)
    return _SUITE.encrypt(plaintext, public, info=_info(label, manifest_sha256))


def load_kem_public_key(data: bytes) -> MLKEM768X25519PublicKey:
    """Read a KEM public key: ML-KEM-768 (1,184 bytes), then X25519 (32). Raises FormatError."""
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


def _info(label: bytes, manifest_sha256: bytes) -> bytes:
    if len(manifest_sha256) != 32:
        raise FormatError(
            "bad-hash",
            "the manifest hash has the wrong size",
            expected="32 bytes",
            seen=f"{len(manifest_sha256)} bytes",
        )
    return label + manifest_sha256
