"""The ID block: with it the processor itself refuses a launch that has another digest.

ABI 8.18 (SNP_LAUNCH_FINISH), tables "ID block", "ID authentication information", and chapter 10
(key and signature formats). The owner's ID key signs the block; an author key may sign the ID key.
Reports show SHA-384 of both keys. Signatures are made elsewhere (nothing here holds a key) and
arrive as OpenSSL writes them.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass

from measure.der import ecdsa_signature
from measure.errors import FormatError, InputError
from measure.snp.digest import DIGEST_SIZE

BLOCK_SIZE = 96
KEY_SIZE = 1028
SIGNATURE_SIZE = 512
AUTH_SIZE = 4096

_BLOCK = struct.Struct("<48s16s16sIIQ")  # digest, family, image, version, SVN, policy
_BLOCK_VERSION = 1
_ID_SIZE = 16
# ID key algorithm, author key algorithm, reserved, signature of the block, ID key, reserved,
# signature of the ID key, author key
_AUTH = struct.Struct("<II56x512s1028s60x512s1028s")
_ECDSA_P384_SHA384 = 1
_P384 = 2
_COORDINATE = 48
_FIELD = 72  # bytes of a number in keys and signatures, little-endian

# SubjectPublicKeyInfo of an uncompressed P-384 point (RFC 5480): all but the coordinates.
_SPKI_PREFIX = bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004")


@dataclass(frozen=True)
class IdBlock:
    """What the ID key signs.

    Attributes:
        launch_digest: 48 bytes.
        policy: the guest policy (64 bits), which must be that of the launch.
        family_id, image_id: 16 bytes each, of the owner's choice; reports show them.
        guest_svn: the owner's version number (32 bits); reports show it.
    """

    launch_digest: bytes
    policy: int
    family_id: bytes = bytes(_ID_SIZE)
    image_id: bytes = bytes(_ID_SIZE)
    guest_svn: int = 0

    def encode(self) -> bytes:
        """The 96 bytes to sign with ECDSA P-384 and SHA-384.

        Raises:
            InputError: a field of the wrong size.
        """
        for name, value, size in (
            ("launch digest", self.launch_digest, DIGEST_SIZE),
            ("family id", self.family_id, _ID_SIZE),
            ("image id", self.image_id, _ID_SIZE),
        ):
            if len(value) != size:
                raise InputError(
                    f"invalid {name}", expected=f"{size} bytes", seen=f"{len(value)} bytes"
                )
        for name, number, bits in (("policy", self.policy, 64), ("guest SVN", self.guest_svn, 32)):
            if not 0 <= number < 1 << bits:
                raise InputError(f"invalid {name}", expected=f"{bits} bits", seen=f"{number:#x}")
        return _BLOCK.pack(
            self.launch_digest,
            self.family_id,
            self.image_id,
            _BLOCK_VERSION,
            self.guest_svn,
            self.policy,
        )


@dataclass(frozen=True)
class Signed:
    """A public key and a signature made with it, in the processor's formats.

    Attributes:
        key: 1028 bytes.
        signature: 512 bytes.
    """

    key: bytes
    signature: bytes

    @property
    def key_digest(self) -> bytes:
        """SHA-384 of the key: ID_KEY_DIGEST or AUTHOR_KEY_DIGEST of a report (48 bytes)."""
        return hashlib.sha384(self.key).digest()


def public_key(der: bytes, file: str) -> bytes:
    """A public key (SubjectPublicKeyInfo, DER) in the processor's format, 1028 bytes.

    The author key signs these bytes of the ID key.

    Raises:
        FormatError: not an uncompressed P-384 key in DER.
    """
    expected = len(_SPKI_PREFIX) + 2 * _COORDINATE
    if not der.startswith(_SPKI_PREFIX) or len(der) != expected:
        raise FormatError(
            "not a P-384 public key",
            file=file,
            expected=f"{expected} bytes of DER, as `openssl pkey -pubout -outform DER` writes them",
            seen=f"{len(der)} bytes that start with {der[:4].hex()}",
        )
    x, y = der[len(_SPKI_PREFIX) : -_COORDINATE], der[-_COORDINATE:]
    fields = b"".join(number[::-1].ljust(_FIELD, b"\0") for number in (x, y))
    return (struct.pack("<I", _P384) + fields).ljust(KEY_SIZE, b"\0")


def signature(der: bytes, file: str) -> bytes:
    """A signature (ECDSA-Sig-Value, DER, RFC 3279) in the processor's format, 512 bytes.

    Raises:
        FormatError: not two positive numbers of at most 48 bytes in DER.
    """
    numbers = ecdsa_signature(der, _COORDINATE, file)
    fields = b"".join(number.to_bytes(_FIELD, "little") for number in numbers)
    return fields.ljust(SIGNATURE_SIZE, b"\0")


def auth_page(block: Signed, author: Signed | None = None) -> bytes:
    """The ID authentication information, 4096 bytes.

    Args:
        block: the ID key, and its signature of the ID block.
        author: the author key, and its signature of the ID key's 1028 bytes.
    """
    key, key_signature = (author.key, author.signature) if author else (b"", b"")
    algorithm = _ECDSA_P384_SHA384
    page = _AUTH.pack(
        algorithm,
        algorithm if author else 0,
        block.signature,
        block.key,
        key_signature,
        key,
    )
    return page.ljust(AUTH_SIZE, b"\0")


def qemu_block(block: bytes) -> str:
    """The property of QEMU's sev-snp-guest object that gives the ID block."""
    return "id-block=" + base64.b64encode(block).decode("ascii")


def qemu_properties(block: bytes, page: bytes, *, author: bool) -> str:
    """The properties with which the launch fails unless the ID block is right and signed."""
    text = f"{qemu_block(block)},id-auth={base64.b64encode(page).decode('ascii')}"
    return text + (",author-key-enabled=on" if author else "")
