"""Requests and connections that meet at the seams of front.py and gunicorn."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from confide.net.server import APART_THREADS
from tests.support.front_server import SOON, THREADS, Server, read_until

GET = b"GET /list HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = (
    b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
)
EXPECTED = (
    b"POST /length HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"
)


@pytest.mark.parametrize("first", [CHUNKED, EXPECTED], ids=["chunked", "expect"])
def test_the_next_request_comes_with_a_body_of_unknown_end(server: Server, first: bytes) -> None:
    """The server reads as much as it gets, and so a part of what follows."""
    with server.connect(first + GET + first[:70]) as sock:
        sock.settimeout(SOON)
        said = read_until(sock, b"a list")
        assert b'"length":3' in said
        sock.sendall(first[70:])
        assert b'"length":3' in read_until(sock, b'"length":3')


@pytest.mark.parametrize("header", ["Transfer-Encoding: chunked", "Content-Length: 70000"])
def test_stalled_bodies_take_no_thread_of_what_is_apart(server: Server, header: str) -> None:
    """A few more than there are threads."""
    head = f"POST /hold HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(APART_THREADS + 6):
            stack.enter_context(server.connect(head))
        time.sleep(0.3)
        for path in ("/healthz", "/list"):
            status, _, seconds = server.call("GET", path)
            assert status == 200 and seconds < SOON
    server.require_answers()


@pytest.mark.parametrize(
    "header",
    ["Transfer-Encoding: chunked", "Expect: 100-continue\r\nContent-Length: 9"],
    ids=["chunked", "expect"],
)
def test_stalled_bodies_of_unknown_end_leave_small_requests_their_threads(
    server: Server, header: str
) -> None:
    head = f"POST /length HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(2 * THREADS):
            stack.enter_context(server.connect(head))
        time.sleep(0.3)
        status, answer, seconds = server.call("POST", "/length", b"1234")
        assert status == 200 and seconds < SOON, answer
