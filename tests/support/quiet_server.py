"""An HTTP server on loopback that prints nothing, also when a client breaks off."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]
"""Gets a request and its body, and answers."""


@contextmanager
def quiet_server(
    answer: Answer,
    *,
    connected: Callable[[], None] = lambda: None,
    protocol_version: str = "HTTP/1.1",
) -> Iterator[int]:
    """Run it; gives its port. `connected` is called for each connection."""
    version = protocol_version

    class Handler(BaseHTTPRequestHandler):
        protocol_version = version

        def setup(self) -> None:
            connected()
            super().setup()

        def _answer(self) -> None:
            answer(self, self.rfile.read(int(self.headers.get("content-length", 0))))

        do_GET = do_POST = _answer

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
