"""More streams than a small pool of threads has, while everybody still answers health checks."""

from __future__ import annotations

import http.client
import select
import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

from confide.net.admission import ALWAYS
from tests.support.app import engine_stats
from tests.support.load import HEADERS, PATH, body_of
from tests.support.native_service import NativeService

STREAMS = 200
"""More than any program had threads when 64 streams stopped a worker's health check."""


def _open_stream(url: str) -> socket.socket:
    """Ask for an answer that the engine never begins."""
    parts = urlsplit(url)
    body = body_of("hang", stream=True)
    lines = [f"POST {PATH} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in HEADERS.items()]
    connection = socket.create_connection((parts.hostname, parts.port), 10)
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return connection


def _health(url: str) -> int:
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)) as peer:
        peer.request("GET", "/healthz")
        return peer.getresponse().status


def test_every_stream_reaches_the_engine_and_health_is_answered(tmp_path: Path) -> None:
    with NativeService(tmp_path) as service, ExitStack() as stack:
        proxy = service.start_proxy(service.start_gateway())
        streams = [stack.enter_context(_open_stream(proxy)) for _ in range(STREAMS)]
        deadline = time.monotonic() + 60
        reached, refused = 0, list[socket.socket]()
        while reached + len(refused) < STREAMS and time.monotonic() < deadline:
            time.sleep(0.1)
            reached = engine_stats(service)["requests"]
            refused = select.select(streams, [], [], 0)[0]
        # A machine that is busy with other work takes fewer, but never fewer than it always does.
        assert reached >= ALWAYS
        assert reached + len(refused) == STREAMS
        for stream in refused:
            head = stream.recv(65536)
            assert head.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: " in head
        for name in ("proxy", "gateway", "worker"):
            assert _health(service.urls[name]) == 200, name
