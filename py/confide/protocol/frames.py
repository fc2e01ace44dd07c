"""Sealed responses: a sequence of records, most of them sealed frames.

Rules:
- The response key is made from the client's salt and the worker's salt. The worker's part matters:
  if a gateway sends one request to two workers, their answers must not share a key and nonces.
- A frame's nonce is its number, the last frame has a type of its own, and bytes after it are an
  error. So a response that was cut, reordered or spliced is an error, never a shorter answer.
- Frames are padded to buckets, because token lengths tell what a model says.
- Usage and clear errors are not sealed. They are marked as not authentic, and no secret depends on
  them.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from confide.encoding.messages import CborMessage
from confide.errors import ConfideError, FormatError, VerificationError
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

FRAME_HEAD = 0
FRAME_DATA = 1
FRAME_FINAL = 2

_RESPONSE_INFO = b"confide/response/1"
_FRAME_AD = b"confide/frame/1"
_PREFIX = struct.Struct(">BI")
# The largest padded plaintext that still fits in a record, and the content that fits in it.
_MAX_PLAINTEXT = (MAX_PAYLOAD - TAG_SIZE) // BUCKET * BUCKET
MAX_CONTENT = _MAX_PLAINTEXT - _PREFIX.size


def _response_aead(key: bytes, request_salt: bytes, response_salt: bytes) -> AESGCM:
    salt = request_salt + response_salt
    return AESGCM(HKDF(SHA256(), 32, salt, _RESPONSE_INFO).derive(key))


class ResponseSealer:
    """Worker side of one response: head, data and usage records, final. Returns bytes to send."""

    def __init__(self, key: bytes, request_salt: bytes) -> None:
        self._salt = os.urandom(SALT_SIZE)
        self._encrypt = _response_aead(key, request_salt, self._salt).encrypt
        self._counter = 0
        self._ended = False
        self._hash = sha256()

    def head(self, status: int, content_type: str) -> bytes:
        """The first bytes of the response: the worker's salt and the head frame."""
        if self._counter:
            raise RuntimeError("the head is the first frame and comes once")
        head = Head(status, content_type).encode()
        return _record(RECORD_START, self._salt) + self._seal(FRAME_HEAD, head)

    def data(self, chunk: bytes) -> bytes:
        """Body bytes, as one frame, or several if they do not fit in one."""
        if not self._counter or self._ended:
            raise RuntimeError("data comes after the head and before the final frame")
        self._hash.update(chunk)
        if len(chunk) <= MAX_CONTENT:
            return self._seal(FRAME_DATA, chunk)
        return b"".join(
            self._seal(FRAME_DATA, chunk[at : at + MAX_CONTENT])
            for at in range(0, len(chunk), MAX_CONTENT)
        )

    def usage(self, prompt_tokens: int, completion_tokens: int) -> bytes:
        """The clear usage record, for the gateway's billing. The receipt holds it too."""
        if not self._counter or self._ended:
            raise RuntimeError("usage comes after the head and before the final frame")
        return _record(RECORD_USAGE, Usage(prompt_tokens, completion_tokens).encode())

    @property
    def response_sha256(self) -> bytes:
        """SHA-256 of all data content so far: 32 bytes, for the receipt."""
        return self._hash.digest()

    def final(self, receipt: bytes) -> bytes:
        """The last frame. `receipt` is an encoded confide.protocol.receipt.Receipt."""
        if not self._counter or self._ended:
            raise RuntimeError("the final frame comes after the head and once")
        if len(receipt) > MAX_CONTENT:
            raise FormatError("too-large", "the receipt does not fit in a frame")
        self._ended = True
        return self._seal(FRAME_FINAL, receipt)

    def _seal(self, kind: int, content: bytes) -> bytes:
        if self._counter >= MAX_FRAMES:
            raise RuntimeError("a response has at most 2**32 frames")
        size = len(content)
        plaintext = _PREFIX.pack(kind, size) + content
        plaintext += bytes(-len(plaintext) % BUCKET)
        payload = self._encrypt(self._counter.to_bytes(12, "big"), plaintext, _FRAME_AD)
        self._counter += 1
        return _PREFIX.pack(RECORD_SEALED, len(payload)) + payload


def clear_error(error: ConfideError) -> bytes:
    """A whole response that is one clear error record: nothing could be sealed."""
    return _record(RECORD_ERROR, ClearError(**error.to_dict()).encode())


def _record(kind: int, payload: bytes) -> bytes:
    return _PREFIX.pack(kind, len(payload)) + payload


def _printable(text: str) -> str:
    if not text.isprintable():
        raise FormatError("bad-field", "the response's content type is not printable")
    return text


@dataclass(frozen=True)
class Head(CborMessage, what="the response's head"):
    """The HTTP status and content type that the engine answered with."""

    status: Annotated[int, Integer(minimum=200, maximum=599)]
    content_type: Annotated[str, Converted(Text(max_length=256), read=_printable, write=str)]


@dataclass(frozen=True)
class Data:
    """Authentic body bytes, in order."""

    chunk: bytes


@dataclass(frozen=True)
class Usage(CborMessage, what="the usage record", limit=1024):
    """Token counts. Those of the clear record are NOT authentic until they equal the receipt's."""

    prompt_tokens: Annotated[int, Integer()]
    completion_tokens: Annotated[int, Integer()]


@dataclass(frozen=True)
class Final:
    """The encoded receipt. The response is complete; nothing may follow."""

    receipt: bytes


@dataclass(frozen=True)
class ClearError(CborMessage, what="the error record", limit=8192):
    """A clear error instead of a response: NOT authentic: anybody on the way can make one."""

    code: Annotated[str, Name()]
    message: Annotated[str, Text()]
    expected: Annotated[str, Text()]
    seen: Annotated[str, Text()]
    next: Annotated[str, Text()]


Event = Head | Data | Usage | Final | ClearError


class ResponseOpener:
    """Client side of one response. Feed it bytes as they come, in any portions.

    After an error the opener stays broken: every further call raises the same kind of error.
    """

    def __init__(self, key: bytes, request_salt: bytes) -> None:
        self._key = key
        self._request_salt = request_salt
        self._aead: AESGCM | None = None
        self._buffer = bytearray()
        self._counter = 0
        self._usage_seen = False
        self._ended = False
        self._failed = False
        self._hash = sha256()

    @property
    def response_sha256(self) -> bytes:
        """SHA-256 of all data content so far: 32 bytes, to compare with the receipt."""
        return self._hash.digest()

    def feed(self, chunk: bytes) -> list[Event]:
        """Take bytes, return the events that they complete.

        Raises FormatError for malformed records and VerificationError (bad-frame, trailing-bytes)
        for frames that are not authentic or not in order.
        """
        if self._failed:
            raise VerificationError("bad-frame", "the response failed already")
        self._buffer += chunk
        try:
            return self._drain()
        except ConfideError:
            self._failed = True
            raise

    def finish(self) -> None:
        """Call at the end of the stream. Raises VerificationError (truncated) if it came early."""
        if self._failed or not self._ended or self._buffer:
            raise VerificationError(
                "truncated",
                "the response ended before its final frame",
                expected="a final frame",
                seen=f"{self._counter} frames without it",
                next="send the request again; the answer so far is incomplete",
            )

    def _drain(self) -> list[Event]:
        events: list[Event] = []
        buffer, at = self._buffer, 0
        while len(buffer) - at >= _PREFIX.size:
            kind, length = _PREFIX.unpack_from(buffer, at)
            # Checked before the payload has arrived: a hostile length must not cost memory.
            if length > MAX_PAYLOAD:
                raise FormatError(
                    "too-large",
                    "a response record is too large",
                    expected=f"at most {MAX_PAYLOAD} bytes",
                    seen=f"{length} bytes",
                )
            if self._ended:
                break
            end = at + _PREFIX.size + length
            if len(buffer) < end:
                break
            event = self._record(kind, bytes(buffer[at + _PREFIX.size : end]))
            if event is not None:
                events.append(event)
            at = end
        del buffer[:at]
        if self._ended and buffer:
            raise VerificationError(
                "trailing-bytes",
                "bytes follow the end of the response",
                seen=f"{len(buffer)} bytes",
            )
        return events

    def _record(self, kind: int, payload: bytes) -> Event | None:
        if self._aead is None:
            if kind == RECORD_START and len(payload) == SALT_SIZE:
                self._aead = _response_aead(self._key, self._request_salt, payload)
                return None
            if kind == RECORD_ERROR:
                self._ended = True
                return ClearError.parse(payload)
            raise FormatError(
                "bad-record",
                "the response starts with a wrong record",
                expected="a start record of 32 bytes or a clear error",
                seen=f"kind {kind}, {len(payload)} bytes",
            )
        if kind == RECORD_SEALED:
            return self._open(self._aead, payload)
        if kind == RECORD_USAGE and self._counter and not self._usage_seen:
            self._usage_seen = True
            return Usage.parse(payload)
        raise FormatError(
            "bad-record",
            "a response record is out of place",
            expected="a sealed frame, or one usage record after the head",
            seen=f"kind {kind}",
        )

    def _open(self, aead: AESGCM, payload: bytes) -> Event:
        try:
            plaintext = aead.decrypt(self._counter.to_bytes(12, "big"), payload, _FRAME_AD)
        except InvalidTag as error:
            raise VerificationError(
                "bad-frame",
                f"frame {self._counter} of the response does not open",
                expected="the next frame of the answer to this very request",
                next="send the request again; something on the way changed the answer",
            ) from error
        kind, content = _unpad(plaintext)
        first = self._counter == 0
        self._counter += 1
        if first != (kind == FRAME_HEAD):
            raise VerificationError(
                "bad-frame",
                "the head is not the first frame",
                seen=f"frame type {kind} as number {self._counter}",
            )
        if kind == FRAME_DATA:
            self._hash.update(content)
            return Data(content)
        if kind == FRAME_HEAD:
            return Head.parse(content)
        if kind == FRAME_FINAL:
            self._ended = True
            return Final(content)
        raise FormatError("bad-frame", "a frame has an unknown type", seen=str(kind))


def _unpad(plaintext: bytes) -> tuple[int, bytes]:
    size = len(plaintext)
    if size < _PREFIX.size:
        raise FormatError("bad-frame", "a frame is too short")
    kind, length = _PREFIX.unpack_from(plaintext)
    end = _PREFIX.size + length
    # Exactly the bucket that the content needs, and zeros: one padding per content.
    if size != end + -end % BUCKET or plaintext.count(0, end) != size - end:
        raise FormatError("bad-frame", "a frame's padding is wrong")
    return kind, plaintext[_PREFIX.size : end]
