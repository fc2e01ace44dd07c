"""A peer that answers anything: what a hostile host, gateway or machine can send.

`OddPeer` answers each request by a seeded generator, or honestly while `honest` is set. The
generator mixes what has ended threads: any type in any field of an honest message, deep nesting,
numbers and texts without bounds, errors made of anything, wrong types and lengths, bodies that
never end, connections that break.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

import cbor2

from tests.support.quiet_server import quiet_server

Respond = Callable[[BaseHTTPRequestHandler], None]
Honest = Callable[[str, bytes], tuple[int, str, bytes]]
"""Path and body of a request to status, content type and body of its answer."""

DEEP = b"[" * 100_000 + b"]" * 100_000
DEEP_CBOR = b"\x81" * 100_000 + b"\x00"
STATUSES = (200, 200, 200, 204, 302, 400, 404, 410, 421, 429, 500, 502, 503, 599)
TYPES = ("application/json", "application/cbor", "text/html", "\x80\xff", "")


def anything(chance: random.Random, depth: int = 3) -> Any:
    """A value of any type, in JSON and in CBOR alike."""
    leaves: list[Any] = [
        None, True, 0, -1, 2**63, -(2**63) - 1, 10**300, 1.5, float("inf"), "", "ready", "x" * 5000,
        "\x1b[2J", "\ud800\udc00", "é\u202e", {}, [],
    ]  # fmt: skip
    if depth and chance.random() < 0.4:
        items = [anything(chance, depth - 1) for _ in range(chance.randrange(4))]
        return items if chance.random() < 0.5 else {f"k{n}": item for n, item in enumerate(items)}
    return chance.choice(leaves)


def altered(chance: random.Random, value: Any) -> Any:
    """The value with one part of it replaced, taken away or added."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(list(value))
        match chance.randrange(4):
            case 0:
                return {key: item for key, item in value.items() if key != name}
            case 1:
                return value | {"other": anything(chance)}
            case _:
                return value | {name: altered(chance, value[name])}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        return [*value[:at], altered(chance, value[at]), *value[at + 1 :]]
    return anything(chance)


def error_body(chance: random.Random) -> bytes:
    """An error with anything in its fields."""
    words = dict.fromkeys(("code", "message", "expected", "seen", "next"), "words")
    return json.dumps(altered(chance, {"error": words})).encode()


def odd_body(chance: random.Random, honest: bytes) -> bytes:
    """Bytes in place of an honest answer's."""
    match chance.randrange(8):
        case 0:
            return chance.choice([DEEP, DEEP_CBOR, b'{"error":' * 50_000, b'{"a":' * 50_000])
        case 1:
            return error_body(chance)
        case 2:
            return honest[: chance.randrange(len(honest) + 1)]
        case 3:
            at = chance.randrange(len(honest) or 1)
            return honest[:at] + chance.randbytes(chance.randrange(4)) + honest[at + 1 :]
        case 4:
            value = anything(chance)
            return json.dumps(value).encode() if chance.random() < 0.5 else _cbor(value)
        case _:
            return _altered_bytes(chance, honest)


def _altered_bytes(chance: random.Random, honest: bytes) -> bytes:
    with suppress(ValueError):
        return json.dumps(altered(chance, json.loads(honest))).encode()
    with suppress(Exception):
        return _cbor(altered(chance, cbor2.loads(honest)))
    return chance.randbytes(50)


def _cbor(value: Any) -> bytes:
    with suppress(Exception):
        return cbor2.dumps(value, canonical=True)
    return b"\xff"


def odd_answer(chance: random.Random, status: int, honest: bytes) -> Respond:
    """How to answer instead of this honest answer."""
    body = error_body(chance) if status != 200 else odd_body(chance, honest)
    status = chance.choice(STATUSES)
    kind = chance.choice(TYPES)
    how = chance.randrange(12)
    length = {0: 10**9, 1: len(body) + 1, 2: -5, 3: 10**30}.get(how, len(body))
    head = f"HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\n"

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        send = handler.wfile.write
        match how:
            case 4:
                _reset(handler.connection)
            case 5:
                send(chance.randbytes(100))
            case 6:  # a body without an end
                send(f"{head}\r\n".encode("latin-1"))
                while True:
                    send(bytes(65536))
            case 7:
                send(b"HTTP/1.1 100 Continue\r\n\r\n" * 200 + b"HTTP/1.1 200 OK\r\n\r\n" + body)
            case 8:
                extra = f"Date: {'9' * 300}\r\nRetry-After: {chance.choice(['-1', '9' * 400, 'x'])}"
                send(f"{head}{extra}\r\n\r\n".encode("latin-1") + body)
            case _:
                send(f"{head}Content-Length: {length}\r\n\r\n".encode("latin-1") + body)

    return answer


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class OddPeer:
    """Answers honestly while `honest` is set, else anything."""

    def __init__(self, seed: int, answers: Honest) -> None:
        self.chance = random.Random(seed)
        self.honest = True
        self.asked = 0
        self._answers = answers
        self._lock = threading.Lock()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def has_been_asked(self, times: int) -> bool:
        """Whether so many requests have come."""
        return self.asked >= times

    def respond(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request."""
        with self._lock:
            self.asked += 1
            status, kind, honest = self._answers(handler.path, body)
            odd = odd_answer(self.chance, status, honest)
            # Some answers stay honest, so that a loop gets as far as its later questions.
            if self.honest or self.chance.random() < 0.3:
                odd = _plainly(status, kind, honest)
        with suppress(OSError):
            odd(handler)


def _plainly(status: int, kind: str, body: bytes) -> Respond:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@contextmanager
def odd_peer(seed: int, answers: Honest) -> Iterator[OddPeer]:
    """Such a peer on loopback."""
    peer = OddPeer(seed, answers)
    with quiet_server(peer.respond, protocol_version="HTTP/1.0") as peer.port:
        yield peer
