"""Sealed responses: a sequence of records, most of them sealed frames. The reader is opener.py.

Rules:
- The response key is made from the client's salt and the worker's salt. The worker's part matters:
  no two answers may share a key and nonces, whatever is sent twice.
- A frame's nonce is its number, the final frame has a type of its own, and what may follow it is
  fixed. So a response that was cut, reordered or spliced is an error, never a shorter answer.
- Frames of a stream are padded to buckets, because token lengths tell what a model says. A whole
  answer is padded by PADMÉ.
- Usage, bill and clear errors are not sealed. No secret depends on them.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from confide.encoding.messages import CborMessage
from confide.errors import ConfideError, FormatError
from confide.protocol.bill import Bill
from confide.protocol.error_answer import WORDS
from confide.protocol.padding import padme
from confide.protocol.usage import Usage
from measure.kinds import Converted, Integer, Name, Text

RESPONSE_TYPE = "application/confide-frames"

SALT_SIZE = 32
TAG_SIZE = 16
BUCKET = 512
MAX_PAYLOAD = 1 << 20
MAX_FRAMES = 2**32

RECORD_SEALED = 1
RECORD_USAGE = 2
RECORD_ERROR = 3
RECORD_START = 4
RECORD_BILL = 5

FRAME_HEAD = 0
FRAME_DATA = 1
FRAME_FINAL = 2
FRAME_WAIT = 3

WAIT_SECONDS = 15.0
"""A worker that has sent nothing for this time sends a wait frame."""

RELAY_SILENCE = 5 * WAIT_SECONDS
"""A gateway gives up a worker that has sent nothing for this time."""

CLIENT_SILENCE = 6 * WAIT_SECONDS
"""A client gives up a gateway. Later, so that it hears why the gateway gave up."""

STREAM = -1
"""The `length` of a head whose answer is a stream."""

MAX_ANSWER = 64 << 20
"""Bytes of a whole answer."""

FRAME_AD = b"confide/frame/2"
PREFIX = struct.Struct(">BI")
_RESPONSE_INFO = b"confide/response/2"
# The largest padded plaintext that still fits in a record, and the content that fits in it.
_MAX_PLAINTEXT = (MAX_PAYLOAD - TAG_SIZE) // BUCKET * BUCKET
MAX_CONTENT = _MAX_PLAINTEXT - PREFIX.size


def printable_type(text: str) -> str:
    """A content type: printable text. Raises FormatError."""
    if not text.isprintable():
        raise FormatError("bad-field", "a content type is not printable")
    return text


CONTENT_TYPE = Converted(Text(max_length=256), read=printable_type, write=str)


@dataclass(frozen=True)
class Head(CborMessage, what="the response's head"):
    """The HTTP status and content type that the engine answered with.

    `length` is the number of bytes of a whole answer, or STREAM.
    """

    status: Annotated[int, Integer(minimum=200, maximum=599)]
    content_type: Annotated[str, CONTENT_TYPE]
    length: Annotated[int, Integer(minimum=STREAM, maximum=MAX_ANSWER)] = STREAM


@dataclass(frozen=True)
class Data:
    """Authentic body bytes, in order."""

    chunk: bytes


@dataclass(frozen=True)
class Wait:
    """The worker is there and has nothing to send yet."""


@dataclass(frozen=True)
class Final:
    """The encoded receipt. The response is complete; only a bill may follow."""

    receipt: bytes


@dataclass(frozen=True)
class ClearError(CborMessage, what="the error record", limit=8192):
    """A clear error instead of a response: NOT authentic: anybody on the way can make one."""

    code: Annotated[str, Name()]
    message: Annotated[str, WORDS]
    expected: Annotated[str, WORDS]
    seen: Annotated[str, WORDS]
    next: Annotated[str, WORDS]


Event = Head | Data | Wait | Usage | Final | Bill | ClearError


def response_aead(key: bytes, request_salt: bytes, response_salt: bytes) -> AESGCM:
    """The cipher of one response. `key` is K_w ‖ share, 64 bytes; both salts have 32."""
    salt = request_salt + response_salt
    return AESGCM(HKDF(SHA256(), 32, salt, _RESPONSE_INFO).derive(key))


class ResponseSealer:
    """Worker side of one response. Each method returns bytes to send."""

    def __init__(self, key: bytes, request_salt: bytes) -> None:
        self._salt = os.urandom(SALT_SIZE)
        self._encrypt = response_aead(key, request_salt, self._salt).encrypt
        self._counter = 0
        self._open = False
        self._ended = False
        self._hash = sha256()

    def wait(self) -> bytes:
        """A wait frame: before the final frame, also before the head."""
        if self._ended:
            raise RuntimeError("a wait frame comes before the final frame")
        return self._seal(FRAME_WAIT, b"")

    def head(self, status: int, content_type: str, length: int = STREAM) -> bytes:
        """The head frame."""
        if self._open or self._ended:
            raise RuntimeError("the head comes once")
        self._open = True
        return self._seal(FRAME_HEAD, Head(status, content_type, length).encode())

    def data(self, chunk: bytes) -> bytes:
        """Bytes of a stream, as one frame, or several if they do not fit in one."""
        self._require_open("data")
        self._hash.update(chunk)
        return self._data(chunk)

    def whole(self, status: int, content_type: str, body: bytes) -> bytes:
        """The head of a whole answer and all of its data, padded."""
        head = self.head(status, content_type, len(body))
        self._hash.update(body)
        return head + self._data(body + bytes(padme(len(body)) - len(body)))

    def usage(self, usage: Usage) -> bytes:
        """The clear usage record, for quotas. The receipt holds it, too."""
        self._require_open("usage")
        return _record(RECORD_USAGE, usage.encode())

    @property
    def response_sha256(self) -> bytes:
        """SHA-256 of the answer so far: 32 bytes, for the receipt."""
        return self._hash.digest()

    def final(self, receipt: bytes) -> bytes:
        """The last frame. `receipt` is an encoded confide.protocol.receipt.Receipt."""
        self._require_open("the final frame")
        if len(receipt) > MAX_CONTENT:
            raise FormatError("too-large", "the receipt does not fit in a frame")
        self._open, self._ended = False, True
        return self._seal(FRAME_FINAL, receipt)

    def bill(self, bill: Bill) -> bytes:
        """The bill record, after the final frame."""
        if not self._ended:
            raise RuntimeError("the bill comes after the final frame")
        return _record(RECORD_BILL, bill.to_payload())

    def _require_open(self, what: str) -> None:
        if not self._open:
            raise RuntimeError(f"{what} comes after the head and before the end")

    def _data(self, content: bytes) -> bytes:
        if len(content) <= MAX_CONTENT:
            return self._seal(FRAME_DATA, content)
        return b"".join(
            self._seal(FRAME_DATA, content[at : at + MAX_CONTENT])
            for at in range(0, len(content), MAX_CONTENT)
        )

    def _seal(self, kind: int, content: bytes) -> bytes:
        if self._counter >= MAX_FRAMES:
            raise RuntimeError("a response has at most 2**32 frames")
        size = len(content)
        plaintext = PREFIX.pack(kind, size) + content
        plaintext += bytes(-len(plaintext) % BUCKET)
        payload = self._encrypt(self._counter.to_bytes(12, "big"), plaintext, FRAME_AD)
        start = b"" if self._counter else _record(RECORD_START, self._salt)
        self._counter += 1
        return start + PREFIX.pack(RECORD_SEALED, len(payload)) + payload


def clear_error(error: ConfideError) -> bytes:
    """A whole response that is one clear error record: nothing could be sealed."""
    return _record(RECORD_ERROR, ClearError(**error.to_dict()).encode())


def _record(kind: int, payload: bytes) -> bytes:
    return PREFIX.pack(kind, len(payload)) + payload
