"""The HTTP client of the data path."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from confide.errors import ConfideError, ConfigError, FormatError, UnavailableError
from confide.net.http_client import IDLE_SECONDS, StaleConnectionError, Upstream
from confide.net.sockets import DEAD_SECONDS
from tests.support.echo_server import tcp_options
from tests.support.localhost_tls import localhost_certificate
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


def test_a_connection_that_idled_long_is_not_used_again(peer: Peer) -> None:
    """After 30 s nobody knows whether the network is still the same."""
    peer.says("/", b"a")
    now = [1000.0]
    upstream = Upstream(peer.url, clock=lambda: now[0])
    for pause, connections in ((0, 1), (IDLE_SECONDS - 1, 1), (IDLE_SECONDS + 1, 2)):
        now[0] += pause
        assert upstream.call("GET", "/")[2] == b"a"
        assert peer.connections == connections
    assert len(upstream._idle) == 1


def test_one_busy_connection_keeps_no_idle_one(peer: Peer) -> None:
    peer.says("/", b"a")
    now = [1000.0]
    upstream = Upstream(peer.url, clock=lambda: now[0])
    with upstream.open("GET", "/") as one, upstream.open("GET", "/") as other:
        assert (one.read(1), other.read(1)) == (b"a", b"a")
    assert len(upstream._idle) == 2
    for _ in range(3):
        now[0] += IDLE_SECONDS / 2
        upstream.call("GET", "/")
    assert len(upstream._idle) == 1
    assert peer.connections == 2


def test_the_kernel_notices_a_peer_that_is_gone(peer: Peer) -> None:
    peer.says("/", b"a")
    upstream = Upstream(peer.url)
    upstream.call("GET", "/")
    ((_, connection),) = upstream._idle
    options = tcp_options(connection.sock)
    assert options["SO_KEEPALIVE"] == 1
    assert options["TCP_USER_TIMEOUT"] == DEAD_SECONDS * 1000


def leaves_when_asked_again(peer: Peer) -> None:
    """Answer, and hang up at the next request on that connection: after reading it."""
    answered: set[BaseHTTPRequestHandler] = set()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler in answered:
            handler.close_connection = True
            return
        answered.add(handler)
        handler.wfile.write(OK + b"Content-Length: 1\r\n\r\na")

    peer.answers["/"] = answer


def test_a_request_that_a_peer_may_have_is_sent_again_or_not(peer: Peer) -> None:
    """An engine may compute twice. The same sealed bytes twice would be a replay."""
    leaves_when_asked_again(peer)
    upstream = Upstream(peer.url)
    assert [upstream.call("GET", "/")[2] for _ in range(2)] == [b"a", b"a"]
    assert len(peer.seen) == 3
    peer.seen.clear()
    sealed = Upstream(peer.url, resends=False)
    assert sealed.call("GET", "/")[2] == b"a"
    with pytest.raises(StaleConnectionError) as caught:
        sealed.call("GET", "/")
    assert caught.value.code == "peer-lost"
    assert len(peer.seen) == 2
    assert sealed.call("GET", "/")[2] == b"a"


def test_one_kept_connection_that_breaks_takes_the_others_with_it(peer: Peer) -> None:
    """After a change of network each of them would cost a request."""
    leaves_when_asked_again(peer)
    upstream = Upstream(peer.url, resends=False)
    with upstream.open("GET", "/") as one, upstream.open("GET", "/") as other:
        assert (one.read(1), other.read(1)) == (b"a", b"a")
    with pytest.raises(StaleConnectionError):
        upstream.call("GET", "/")
    assert not upstream._idle
    assert upstream.call("GET", "/")[2] == b"a"


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


def slow(*steps: bytes | float) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer in pieces, with pauses in seconds between them."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        for step in steps:
            if isinstance(step, bytes):
                handler.wfile.write(step)
                handler.wfile.flush()
            else:
                time.sleep(step)
        handler.close_connection = True

    return answer


def test_a_caller_learns_that_nothing_has_come_yet(peer: Peer) -> None:
    """Before the head, and between pieces; what came with the head is not waited for."""
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n"
    peer.answers["/"] = slow(0.2, head, 0.2, b"3\r\ntwo\r\n", 0.2, b"0\r\n\r\n")
    pending = Upstream(peer.url).begin("GET", "/")
    waits = 0
    while not pending.ready(0.03):
        waits += 1
    assert 3 <= waits <= 8
    with pending.answer() as answer:
        pieces = list(answer.pieces(every=0.03))
    assert pieces[0] == b"one"
    assert [piece for piece in pieces if piece] == [b"one", b"two"]
    assert 6 <= pieces.count(b"") <= 16


@pytest.mark.parametrize("coding", [b"Content-Length: 6\r\n\r\n", b"Connection: close\r\n\r\n"])
def test_pauses_in_a_body_that_is_not_chunked(peer: Peer, coding: bytes) -> None:
    peer.answers["/"] = slow(OK + coding + b"one", 0.2, b"two")
    with Upstream(peer.url).open("GET", "/") as answer:
        assert b"".join(answer.pieces(every=0.03)) == b"onetwo"


def test_a_request_that_was_begun_and_given_up(peer: Peer) -> None:
    release = threading.Event()

    def wait(_: BaseHTTPRequestHandler) -> None:
        release.wait(5)

    peer.answers["/"] = wait
    upstream = Upstream(peer.url)
    pending = upstream.begin("GET", "/")
    assert not pending.ready(0.05)
    pending.close()
    release.set()
    assert not upstream._idle


class EarlyAnswer:
    """A server that answers after the head of a request, and reads no body.

    A rude one closes at once, so that the kernel resets the connection under the sender.
    """

    def __init__(self, *, rude: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self.received = 0
        self._rude = rude
        self._tls = tls
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        # Else the kernel may hold the answer back, and drop it when the connection is closed.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True)
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4096)
            connection.sendall(b"HTTP/1.1 421 No\r\nContent-Length: 4\r\n\r\nlist")
            # What the client has on its way by then; it must come to an end.
            self.received = len(head)
            while not self._rude and (data := connection.recv(1 << 16)):
                self.received += len(data)

    def close(self) -> None:
        self._thread.join(10)
        self._listener.close()


def test_an_early_answer_stops_the_body() -> None:
    """16 MiB for a gateway that cannot use the worker are not sent, and nothing is kept."""
    server = EarlyAnswer()
    upstream = Upstream(server.url, read_seconds=5)
    with upstream.open("POST", "/", body=bytes(64 << 20)) as answer:
        assert (answer.status, answer.read(100)) == (421, b"list")
    server.close()
    assert server.received < 32 << 20
    assert not upstream._idle


@pytest.mark.parametrize("size", [1 << 10, 60 << 10, 1 << 20, 64 << 20])
@pytest.mark.parametrize("with_tls", [False, True])
def test_a_refusal_is_read_though_the_connection_was_reset(
    size: int, with_tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sending fails with EPIPE or ECONNRESET. What was refused, and why, is there all the same."""
    tls = None
    if with_tls:
        certificate = localhost_certificate(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    server = EarlyAnswer(rude=True, tls=tls)
    upstream = Upstream(server.url, read_seconds=5)
    with upstream.open("POST", "/", body=bytes(size)) as answer:
        assert (answer.status, answer.read(100)) == (421, b"list")
    server.close()


def test_a_large_body_arrives_whole(peer: Peer) -> None:
    peer.says("/", b"ok")
    body = bytes(range(256)) * 10_000
    upstream = Upstream(peer.url)
    for _ in range(2):
        assert upstream.call("POST", "/", body=body, headers={"X": "1"})[2] == b"ok"
    assert [call[3] == body for call in peer.seen] == [True, True]
    assert peer.seen[0][2]["X"] == "1"
    assert peer.connections == 1
