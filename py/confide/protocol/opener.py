"""The client's side of a sealed response: takes bytes as they come, gives events, trusts nothing.

docs/protocol.md, section 9, says what may come where. frames.py has the formats and the worker's
side.
"""

from __future__ import annotations

from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from confide.errors import ConfideError, FormatError, VerificationError
from confide.protocol.bill import Bill
from confide.protocol.frames import (
    BUCKET,
    FRAME_AD,
    FRAME_DATA,
    FRAME_FINAL,
    FRAME_HEAD,
    FRAME_WAIT,
    MAX_CONTENT,
    MAX_PAYLOAD,
    PREFIX,
    RECORD_BILL,
    RECORD_ERROR,
    RECORD_SEALED,
    RECORD_START,
    RECORD_USAGE,
    SALT_SIZE,
    STREAM,
    ClearError,
    Data,
    Event,
    Final,
    Head,
    Wait,
    response_aead,
)
from confide.protocol.padding import padme
from confide.protocol.usage import Usage


class ResponseOpener:
    """Client side of one response. Feed it bytes as they come, in any portions.

    After an error the opener stays broken: every further call raises the same kind of error.
    """

    def __init__(self, key: bytes, request_salt: bytes) -> None:
        """`key` is K_w ‖ share (64 bytes), `request_salt` that of the request (32 bytes)."""
        self._key = key
        self._request_salt = request_salt
        self._aead: AESGCM | None = None
        self._buffer = bytearray()
        self._counter = 0
        self._head: Head | None = None
        self._received = 0
        self._usage_seen = False
        self._ended = False
        self._closed = False
        self._failed = False
        self._hash = sha256()

    @property
    def response_sha256(self) -> bytes:
        """SHA-256 of the answer so far: 32 bytes, to compare with the receipt."""
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
        while len(buffer) - at >= PREFIX.size:
            kind, length = PREFIX.unpack_from(buffer, at)
            # Checked before the payload has arrived: a hostile length must not cost memory.
            if length > MAX_PAYLOAD:
                raise FormatError(
                    "too-large",
                    "a response record is too large",
                    expected=f"at most {MAX_PAYLOAD} bytes",
                    seen=f"{length} bytes",
                )
            if self._closed or (self._ended and kind != RECORD_BILL):
                break
            end = at + PREFIX.size + length
            if len(buffer) < end:
                break
            event = self._record(kind, bytes(buffer[at + PREFIX.size : end]))
            if event is not None:
                events.append(event)
            at = end
        del buffer[:at]
        if buffer and (self._closed or (self._ended and buffer[0] != RECORD_BILL)):
            raise VerificationError(
                "trailing-bytes",
                "bytes follow the end of the response",
                seen=f"{len(buffer)} bytes",
            )
        return events

    def _record(self, kind: int, payload: bytes) -> Event | None:
        if self._aead is None:
            if kind == RECORD_START and len(payload) == SALT_SIZE:
                self._aead = response_aead(self._key, self._request_salt, payload)
                return None
            if kind == RECORD_ERROR:
                self._ended = self._closed = True
                return ClearError.parse(payload)
            raise FormatError(
                "bad-record",
                "the response starts with a wrong record",
                expected="a start record of 32 bytes or a clear error",
                seen=f"kind {kind}, {len(payload)} bytes",
            )
        if kind == RECORD_SEALED and not self._ended:
            return self._open(self._aead, payload)
        if kind == RECORD_USAGE and self._head is not None and not self._usage_seen:
            self._usage_seen = True
            return Usage.parse(payload)
        if kind == RECORD_BILL and self._ended:
            self._closed = True
            return Bill.from_payload(payload)
        raise FormatError(
            "bad-record",
            "a response record is out of place",
            expected="a sealed frame, one usage record after the head, or one bill at the end",
            seen=f"kind {kind}",
        )

    def _open(self, aead: AESGCM, payload: bytes) -> Event:
        try:
            plaintext = aead.decrypt(self._counter.to_bytes(12, "big"), payload, FRAME_AD)
        except InvalidTag as error:
            raise VerificationError(
                "bad-frame",
                f"frame {self._counter} of the response does not open",
                expected="the next frame of the answer to this very request",
                next="send the request again; something on the way changed the answer",
            ) from error
        kind, content = _unpad(plaintext)
        self._counter += 1
        if kind == FRAME_WAIT:
            if content:
                raise _misplaced("a wait frame has content", f"{len(content)} bytes")
            return Wait()
        if (self._head is None) != (kind == FRAME_HEAD):
            raise _misplaced("the head is not the first frame", f"frame type {kind}")
        if self._head is None:
            self._head = Head.parse(content)
            return self._head
        if kind == FRAME_DATA:
            return self._data(self._head.length, content)
        if kind == FRAME_FINAL:
            self._require_whole(self._head.length)
            self._ended = True
            return Final(content)
        raise FormatError("bad-frame", "a frame has an unknown type", seen=str(kind))

    def _data(self, length: int, content: bytes) -> Data:
        if length != STREAM:
            # Of a whole answer, all frames but the last are full, and zeros follow the answer.
            before, self._received = self._received, self._received + len(content)
            size = padme(length)
            if self._received > size or len(content) != min(MAX_CONTENT, size - before):
                raise _misplaced("a frame of a whole answer has the wrong size", str(len(content)))
            kept = max(0, min(len(content), length - before))
            if content.count(0, kept) != len(content) - kept:
                raise _misplaced("the padding of the answer is wrong", "a byte that is not zero")
            content = content[:kept]
        self._hash.update(content)
        return Data(content)

    def _require_whole(self, length: int) -> None:
        if length != STREAM and self._received != padme(length):
            raise _misplaced("a whole answer is not as long as its head says", str(self._received))


def _misplaced(what: str, seen: str) -> VerificationError:
    return VerificationError("bad-frame", what, seen=seen)


def _unpad(plaintext: bytes) -> tuple[int, bytes]:
    size = len(plaintext)
    if size < PREFIX.size:
        raise FormatError("bad-frame", "a frame is too short")
    kind, length = PREFIX.unpack_from(plaintext)
    end = PREFIX.size + length
    # Exactly the bucket that the content needs, and zeros: one padding per content.
    if size != end + -end % BUCKET or plaintext.count(0, end) != size - end:
        raise FormatError("bad-frame", "a frame's padding is wrong")
    return kind, plaintext[PREFIX.size : end]
