"""The HTTP client of the data path."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from confide.errors import ConfideError, ConfigError, FormatError, UnavailableError
from confide.net.http_client import Upstream
from tests.support.peer import Peer
from tests.support.programs import free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n"


@pytest.mark.parametrize(
    "url",
    ["", "host:1", "ftp://h", "http://", "http://h/p", "http://h?q", "http://u:p@h", "http://h:x"],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError):
        Upstream(url)


def test_a_trailing_slash_is_allowed() -> None:
    assert Upstream("http://h:1/").url == "http://h:1"


def test_connections_are_kept(peer: Peer) -> None:
    peer.says("/", b"answer")
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    peer.sends("/chunked", chunked, then_close=False)
    upstream = Upstream(peer.url)
    for _ in range(3):
        assert upstream.call("GET", "/") == (200, "text/plain", b"answer")
        assert upstream.call("POST", "/chunked", body=b"x") == (200, "a/b", b"ab")
    assert peer.connections == 1


def test_an_answer_that_was_not_read_to_its_end_is_cut(peer: Peer) -> None:
    peer.says("/", b"x" * 100_000)
    upstream = Upstream(peer.url)
    for _ in range(2):
        with upstream.open("GET", "/") as answer:
            next(answer.pieces())
    assert peer.connections == 2


def test_a_connection_that_went_stale_is_replaced(peer: Peer) -> None:
    peer.sends("/", OK + b"Content-Length: 1\r\n\r\na")
    upstream = Upstream(peer.url)
    for _ in range(3):
        assert upstream.call("GET", "/")[2] == b"a"
    assert peer.connections == 3


def test_a_fresh_connection_that_breaks_is_not_tried_again(peer: Peer) -> None:
    peer.sends("/", b"")
    with pytest.raises(UnavailableError) as caught:
        Upstream(peer.url).call("GET", "/")
    assert caught.value.code == "peer-lost"
    assert len(peer.seen) == 1


def test_a_body_until_the_end_of_the_connection(peer: Peer) -> None:
    peer.sends("/", OK + b"\r\nbody")
    assert Upstream(peer.url).call("GET", "/")[2] == b"body"


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"garbage\r\n\r\n",
        OK + b"Content-Length: 10\r\n\r\nshort",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ],
)
def test_answers_that_are_broken(peer: Peer, wire: bytes) -> None:
    peer.sends("/", wire)
    with pytest.raises(UnavailableError) as caught:
        Upstream(peer.url).call("GET", "/")
    assert caught.value.code == "peer-lost"


def test_nobody_there() -> None:
    with pytest.raises(UnavailableError) as caught:
        Upstream(f"http://127.0.0.1:{free_port()}").call("GET", "/")
    assert caught.value.code == "peer-unreachable"


def test_a_peer_that_does_not_answer(peer: Peer) -> None:
    peer.answers["/"] = lambda _: time.sleep(0.5)
    with pytest.raises(UnavailableError) as caught:
        Upstream(peer.url, read_seconds=0.1).call("GET", "/")
    assert caught.value.code == "peer-timeout"


def test_the_limit(peer: Peer) -> None:
    peer.says("/", b"x" * 100)
    upstream = Upstream(peer.url)
    assert len(upstream.call("GET", "/", limit=100)[2]) == 100
    with pytest.raises(FormatError):
        upstream.call("GET", "/", limit=99)


def test_headers_cannot_be_split(peer: Peer) -> None:
    peer.says("/", b"")
    with pytest.raises((ValueError, ConfideError)):
        Upstream(peer.url).call("GET", "/", headers={"A": "b\r\nC: d"})


def test_parallel_calls(new_peer: Callable[[], Peer]) -> None:
    peer = new_peer()
    peer.says("/", b"a" * 1000)
    upstream = Upstream(peer.url)
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: answers.append(upstream.call("GET", "/")[2]))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [b"a" * 1000] * 20
