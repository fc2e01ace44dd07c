"""What is read of a request before a thread has it."""

from __future__ import annotations

import math

import pytest

from confide.net.request_head import SMALL_BODY, Lane, read_head

APART = frozenset({"POST /keys"})


@pytest.mark.parametrize(
    ("line", "lane"),
    [
        ("GET /healthz", Lane.HEALTH),
        ("GET /healthz?x", Lane.APART),
        ("GET /list", Lane.APART),
        ("POST /keys", Lane.APART),
        # What could reach another route than its first line says has no reserved thread.
        ("POST /keys?x", Lane.MAIN),
        ("POST //keys", Lane.MAIN),
        ("POST http://a/keys", Lane.MAIN),
        ("post /keys", Lane.MAIN),
        ("POST /healthz", Lane.MAIN),
        ("GETX /healthz", Lane.MAIN),
        (" GET /healthz", Lane.MAIN),
        ("\xff", Lane.MAIN),
        ("", Lane.MAIN),
    ],
)
def test_lanes(line: str, lane: Lane) -> None:
    head = read_head(f"{line} HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"), APART)
    assert head is not None and head.lane == lane


@pytest.mark.parametrize("line", ["GET /healthz", "GET /list", "POST /keys", "POST /x"])
@pytest.mark.parametrize(
    "header",
    ["Transfer-Encoding: chunked", "Expect: 100-continue", f"Content-Length: {SMALL_BODY + 1}"],
)
def test_a_body_that_a_thread_awaits_takes_no_thread_of_small_ones(line: str, header: str) -> None:
    head = read_head(f"{line} HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n".encode(), APART)
    assert head is not None and head.lane == Lane.LARGE


@pytest.mark.parametrize(
    ("headers", "body", "awaited"),
    [
        ("", 0, 0),
        ("Content-Length: 7", 7, 7),
        ("content-length:7", 7, 7),
        (f"Content-Length: {SMALL_BODY}", SMALL_BODY, SMALL_BODY),
        (f"Content-Length: {SMALL_BODY + 1}", SMALL_BODY + 1, 0),
        ("Content-Length: 7\r\nContent-Length: 8", math.inf, 0),
        ("Content-Length: 7\r\nTransfer-Encoding: chunked", math.inf, 0),
        ("Content-Length: 7\r\nExpect: 100-continue", math.inf, 0),
        # gunicorn refuses these. Nothing is awaited for them.
        ("Content-Length: -7", 0, 0),
        ("Content-Length: " + "9" * 30, 0, 0),
    ],
)
def test_sizes(headers: str, body: float, awaited: float) -> None:
    data = f"POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n".replace("\r\n" * 3, "\r\n" * 2)
    head = read_head(bytearray(data.encode()), APART)
    assert head is not None
    assert (head.size - head.head_size, head.awaited - head.head_size) == (body, awaited)


def test_an_incomplete_head() -> None:
    assert read_head(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r", APART) is None
    assert read_head(b"", APART) is None
