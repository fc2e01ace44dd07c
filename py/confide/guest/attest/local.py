"""Small services of this machine, each behind a Unix socket that systemd opens for one program.

Work that needs root has its own service, so the role's program needs no rights. A connection
carries one request, the CBOR map {operation, data}, and one answer: {items}, a list of byte
strings, or {error}. A service decides nothing: a verifier decides what evidence is worth.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from confide.encoding.canonical import cbor_decode, cbor_encode
from confide.encoding.console import say
from confide.encoding.messages import CborMessage, read_value, to_map
from confide.errors import ConfideError, FormatError, UnavailableError
from confide.protocol.error_answer import ErrorWords
from confide.protocol.evidence import MAX_EVIDENCE
from measure.declare import Either, Nested
from measure.kinds import Anything, Blob, Converted, ListOf, Text

Operation = Callable[[bytes], Sequence[bytes]]
"""Takes the data of a request and returns the items of the answer, or raises ConfideError."""

MAX_REQUEST = 256
MAX_ANSWER = MAX_EVIDENCE + 4096
MAX_ITEMS = 16
REQUEST_SECONDS = 10.0
# Longer than the kernel waits for a host that is busy.
ANSWER_SECONDS = 120.0

_LISTEN_FD = 3  # the first socket that systemd passes on (sd_listen_fds(3))


@dataclass(frozen=True)
class _Request(CborMessage, what="the request", limit=MAX_REQUEST):
    operation: Annotated[str, Text()]
    data: Annotated[bytes, Blob()]


def _read_items(items: tuple[object, ...]) -> tuple[bytes, ...]:
    blobs = tuple(item for item in items if isinstance(item, bytes))
    if len(blobs) != len(items):
        raise FormatError("bad-answer", "an item of a service's answer is not a byte string")
    return blobs


@dataclass(frozen=True)
class _Answer:
    items: Annotated[
        tuple[bytes, ...], Converted(ListOf(Anything(), MAX_ITEMS), read=_read_items, write=list)
    ]


@dataclass(frozen=True)
class _Refusal:
    error: Annotated[ErrorWords, Nested(ErrorWords)]


_ANSWER = Either(_Refusal, _Answer)


@dataclass(frozen=True)
class LocalService:
    """The client's side of the service at `path`. Thread-safe: each request has its own connection.

    `code` is the error code for a service that is unreachable.
    """

    path: Path
    code: str

    def ask(self, operation: str, data: bytes = b"") -> tuple[bytes, ...]:
        """The items of the answer, at most 16.

        Raises UnavailableError if the service is unreachable or answers with an error, whose code
        it has then; FormatError for a malformed answer.
        """
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(ANSWER_SECONDS)
                connection.connect(str(self.path))
                connection.sendall(_Request(operation, data).encode())
                connection.shutdown(socket.SHUT_WR)
                answer = _receive(connection, MAX_ANSWER)
        except OSError as error:
            raise UnavailableError(
                self.code,
                "a service of this machine is unreachable",
                expected=f"an answer at {self.path}",
                seen=error.strerror or type(error).__name__,
                next="read the service's message on the console",
            ) from error
        return _read_answer(answer)


def passed_socket() -> socket.socket:
    """The listening socket that systemd opened for this process."""
    return socket.socket(fileno=_LISTEN_FD)


def serve(listener: socket.socket, operations: Mapping[str, Operation]) -> None:
    """Answer connections, one after the other, until the listener is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            try:
                connection.settimeout(REQUEST_SECONDS)
                request = _receive(connection, MAX_REQUEST)
                connection.settimeout(ANSWER_SECONDS)
                connection.sendall(_answer(operations, request))
            except OSError:
                continue  # the client has gone or sent nothing: serve the next one


def _answer(operations: Mapping[str, Operation], request: bytes) -> bytes:
    try:
        asked = _Request.parse(request)
        if asked.operation not in operations:
            raise FormatError(
                "bad-field",
                "the service has no such operation",
                expected=" or ".join(operations),
                seen=ascii(asked.operation[:80]),
            )
        return cbor_encode(to_map(_Answer(tuple(operations[asked.operation](asked.data)))))
    except ConfideError as error:
        return _refused(error)
    except Exception as error:
        # A device or a kernel that answers oddly must not end the service. Only the type, because
        # a message may quote anything.
        say(f"unexpected {type(error).__name__} in a service of this machine")
        return _refused(ConfideError("internal", "the service has a defect"))


def _refused(error: ConfideError) -> bytes:
    return cbor_encode(to_map(_Refusal(ErrorWords(**error.to_dict()))))


def _read_answer(answer: bytes) -> tuple[bytes, ...]:
    value = cbor_decode(answer, what="the answer", limit=MAX_ANSWER)
    message: _Refusal | _Answer = read_value(_ANSWER, value, "the answer")
    if isinstance(message, _Refusal):
        error = message.error
        raise UnavailableError(
            error.code, error.message, expected=error.expected, seen=error.seen, next=error.next
        )
    return message.items


def _receive(connection: socket.socket, limit: int) -> bytes:
    """All bytes until the other side ends, but at most one more than `limit`."""
    received = bytearray()
    while len(received) <= limit:
        chunk = connection.recv(1 << 16)
        if not chunk:
            break
        received += chunk
    return bytes(received[: limit + 1])
