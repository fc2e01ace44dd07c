"""A gateway in the middle that is under an attacker's control: it stands before the honest one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests


@dataclass
class Exchange:
    """One request and its answer as they pass."""

    path: str
    headers: dict[str, str]
    body: bytes
    answer: bytes = b""


@dataclass
class HostileGateway:
    """Passes everything on, through two hooks that may change it. Keeps what it saw."""

    upstream: str
    on_request: Callable[[Exchange], bytes] = lambda exchange: exchange.body
    on_answer: Callable[[Exchange], bytes] = lambda exchange: exchange.answer
    seen: list[Exchange] = field(default_factory=list)
    url: str = ""

    def forward(self, exchange: Exchange) -> requests.Response:
        """Send an exchange's request to the honest gateway."""
        method = "POST" if exchange.body else "GET"
        return requests.request(
            method,
            self.upstream + exchange.path,
            data=exchange.body or None,
            headers=exchange.headers,
            timeout=120,
        )


@contextmanager
def hostile_gateway(upstream: str) -> Iterator[HostileGateway]:
    """Serve a HostileGateway on a free port of 127.0.0.1 until the block ends."""
    gateway = HostileGateway(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            length = int(self.headers.get("content-length", 0))
            hop = ("host", "connection", "content-length", "accept-encoding")
            headers = {k: v for k, v in self.headers.items() if k.lower() not in hop}
            exchange = Exchange(self.path, headers, self.rfile.read(length))
            exchange.body = gateway.on_request(exchange)
            response = gateway.forward(exchange)
            exchange.answer = response.content
            gateway.seen.append(exchange)
            answer = gateway.on_answer(exchange)
            self.send_response(response.status_code)
            self.send_header("content-type", response.headers.get("content-type", ""))
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = _pass

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    gateway.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
