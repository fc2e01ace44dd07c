"""Bodies of requests at the real server: whole, or an error. Never a shorter one."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest

from confide.net.sockets import DEAD_SECONDS
from tests.support.echo_server import BODY_SECONDS, MAX_BODY, echo_server

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = HEAD + b"Content-Length: 10\r\n\r\n"
PAUSE = BODY_SECONDS + 0.5
LEAVE = None
"""A step of a sender: it closes its side of the connection."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with echo_server() as listening:
        yield listening


def exchange(port: int, *steps: bytes | float | None) -> tuple[int, bytes]:
    """Send bytes, and wait for so many seconds between them."""
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        for step in steps:
            if step is None:
                sock.shutdown(socket.SHUT_WR)
            elif isinstance(step, bytes):
                sock.sendall(step)
            else:
                time.sleep(step)
        response = HTTPResponse(sock)
        response.begin()
        return response.status, response.read()


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    "steps",
    [
        (CHUNKED + chunks(b"abc", b"de"),),
        (CHUNKED + b"3\r\nabc\r\n", 0.5, b"2\r\n", 0.5, b"de\r\n", 0.5, chunks()),
        (HEAD + b"Transfer-Encoding: Chunked\r\nExpect: 100-continue\r\n\r\n" + chunks(b"abcde"),),
        (CHUNKED + b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX-Checksum: x\r\n\r\n",),
        (HEAD + b"Content-Length: 5\r\n\r\nab", BODY_SECONDS / 2, b"cde"),
    ],
)
def test_whole_bodies(port: int, steps: tuple[bytes | float, ...]) -> None:
    assert exchange(port, *steps) == (200, b"5 bytes, sum 495")


def test_no_body(port: int) -> None:
    assert exchange(port, CHUNKED + chunks())[1].startswith(b"0 bytes")
    assert exchange(port, HEAD + b"\r\n")[1].startswith(b"0 bytes")


@pytest.mark.parametrize("size", [MAX_BODY - 1, MAX_BODY])
def test_the_largest_chunked_body(port: int, size: int) -> None:
    assert exchange(port, CHUNKED + chunks(b"\1" * size)) == (
        200,
        b"%d bytes, sum %d" % (size, size),
    )


@pytest.mark.parametrize(
    "pieces", [(MAX_BODY + 1,), (MAX_BODY, 1), (1000,) * 300, (10 * MAX_BODY,)]
)
def test_a_chunked_body_over_the_limit(port: int, pieces: tuple[int, ...]) -> None:
    """Without the last byte that says so, Flask would hand over its beginning."""
    status, answer = exchange(port, CHUNKED + chunks(*map(bytes, pieces)))
    assert status == 413
    assert f"at most {MAX_BODY} bytes" in answer.decode()


CUTS = [
    b"",
    b"3",
    b"3\r\n",
    b"3\r\nab",
    b"3\r\nabc",
    b"3\r\nabc\r\n",
    b"3\r\nabc\r\n0",
    b"3\r\nabc\r\n0\r\n",
]


@pytest.mark.parametrize("cut", CUTS, ids=repr)
def test_a_chunked_body_that_is_cut(port: int, cut: bytes) -> None:
    status, _ = exchange(port, CHUNKED + cut, LEAVE)
    assert status in (400, 408)


@pytest.mark.parametrize("cut", CUTS, ids=repr)
def test_a_chunked_body_that_stalls(port: int, cut: bytes) -> None:
    """Also if the rest comes later: gunicorn's reader has given up by then."""
    status, answer = exchange(port, CHUNKED + cut, PAUSE, (CUTS[-1] + b"\r\n")[len(cut) :])
    assert (status, json.loads(answer)["error"]["code"]) == (408, "incomplete-body")


@pytest.mark.parametrize("steps", [(LENGTH + b"abc", LEAVE), (LENGTH, LEAVE)])
def test_a_body_shorter_than_its_length(port: int, steps: tuple[bytes | None, ...]) -> None:
    status, answer = exchange(port, *steps)
    assert (status, json.loads(answer)["error"]["code"]) == (408, "incomplete-body")


def test_a_stalled_upload_may_be_sent_again(port: int) -> None:
    """408 is what client libraries try again; a 400 would be the app's own fault."""
    status, answer = exchange(port, LENGTH + b"abc", PAUSE, b"defghij")
    assert (status, json.loads(answer)["error"]["code"]) == (408, "incomplete-body")


@pytest.mark.parametrize(
    "head",
    [
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5x\r\n",
        b"Content-Length: -5\r\n",
    ],
)
def test_lengths_that_two_readers_could_see_differently(port: int, head: bytes) -> None:
    status, _ = exchange(port, HEAD + head + b"\r\n" + chunks(b"abcde"))
    assert 400 <= status < 600 and status != 408


@pytest.mark.parametrize(
    "wire", [b"zz\r\n", b"-1\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"3\nabc\n0\n\n"]
)
def test_malformed_chunks(port: int, wire: bytes) -> None:
    assert exchange(port, CHUNKED + wire, LEAVE)[0] in (400, 408)


def test_a_peer_that_is_gone_is_noticed(port: int) -> None:
    status, answer = exchange(port, b"GET /options HTTP/1.1\r\nHost: x\r\n\r\n")
    options = json.loads(answer)
    assert (status, options["SO_KEEPALIVE"]) == (200, 1)
    assert options["TCP_USER_TIMEOUT"] == DEAD_SECONDS * 1000
    probes = options["TCP_KEEPINTVL"] * options["TCP_KEEPCNT"]
    assert options["TCP_KEEPIDLE"] + probes == DEAD_SECONDS
