"""A gateway under an attacker's control: it stands before the honest one, and streams too."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from confide.net.http_client import Upstream

_HOP_BY_HOP = ("host", "connection", "content-length", "accept-encoding", "transfer-encoding")


class Cut(Exception):
    """Raised by a hook: break the connection off here."""


@dataclass
class Exchange:
    """One request as it passes."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Exchange, Iterable[bytes]], Iterable[bytes]]
Message = Callable[[Exchange, bytes], bytes]


def _unchanged(_: Exchange, records: Iterable[bytes]) -> Iterable[bytes]:
    return records


@dataclass
class HostileGateway:
    """Passes everything on, through three hooks.

    `on_answer` gets a sealed answer record by record, `on_message` any other answer whole.
    """

    honest: Upstream
    url: str = ""
    on_request: Callable[[Exchange], None] = lambda exchange: None
    on_answer: Answer = _unchanged
    on_message: Message = lambda exchange, message: message
    seen: list[Exchange] = field(default_factory=list)

    def reset(self) -> None:
        """Be honest again."""
        self.on_request, self.on_answer = lambda exchange: None, _unchanged
        self.on_message = lambda exchange, message: message

    def fresh(self) -> Iterator[HostileGateway]:
        """For a fixture: honest and without memories before and after a test."""
        self.reset()
        self.seen.clear()
        yield self
        self.reset()

    def send(self, exchange: Exchange) -> bytes:
        """Send a request to the honest gateway once more."""
        return self.honest.call(
            exchange.method, exchange.path, body=exchange.body, headers=exchange.headers
        )[2]


def records(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Bytes of a sealed answer, cut where its records end (docs/protocol.md)."""
    buffer = b""
    for piece in pieces:
        buffer += piece
        while len(buffer) >= 5:
            end = 5 + int(struct.unpack_from(">I", buffer, 1)[0])
            if len(buffer) < end:
                break
            yield buffer[:end]
            buffer = buffer[end:]
    if buffer:
        yield buffer


@contextmanager
def hostile_gateway(honest: str) -> Iterator[HostileGateway]:
    """Serve one on a free port of 127.0.0.1 until the block ends."""
    gateway = HostileGateway(Upstream(honest))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
            exchange = Exchange(self.command, self.path, headers, body)
            gateway.on_request(exchange)
            gateway.seen.append(exchange)
            with gateway.honest.open(
                exchange.method, exchange.path, body=exchange.body, headers=exchange.headers
            ) as answer:
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    for data in self._altered(exchange, answer.content_type, answer.pieces()):
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                        self.wfile.flush()
                    self.wfile.write(b"0\r\n\r\n")
                except (Cut, ConnectionError):
                    self.close_connection = True

        def _altered(
            self, exchange: Exchange, content_type: str, pieces: Iterable[bytes]
        ) -> Iterator[bytes]:
            if content_type == "application/confide-frames":
                pieces = gateway.on_answer(exchange, records(pieces))
            else:
                pieces = (gateway.on_message(exchange, b"".join(pieces)),)
            for piece in pieces:
                if piece:
                    yield piece

        do_GET = do_POST = _pass

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that hangs up is nothing to print."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    gateway.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
