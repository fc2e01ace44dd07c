"""Hang-ups of clients, with every selector that a program may get on this system.

None gets that of select(), which knows the descriptors below 1,024 only.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from struct import pack

import pytest

from confide.errors import UnavailableError
from confide.net import loops
from confide.net.disconnect import DisconnectWatch, DisconnectWatcher
from confide.net.http_client import STREAMS, Upstream
from tests.support.peer import Peer

SELECTORS = [
    kind
    for name in ("EpollSelector", "KqueueSelector", "PollSelector")
    if (kind := getattr(selectors, name, None)) is not None
]


@pytest.fixture(params=SELECTORS)
def watcher(request: pytest.FixtureRequest) -> DisconnectWatcher:
    return DisconnectWatcher(request.param())


@pytest.fixture
def connect() -> Iterator[Callable[[], tuple[socket.socket, socket.socket]]]:
    """A function that gives the server's and the client's end of a connection."""
    ends: list[socket.socket] = []
    server = socket.create_server(("127.0.0.1", 0))

    def connected() -> tuple[socket.socket, socket.socket]:
        client = socket.create_connection(server.getsockname())
        server_end, _ = server.accept()
        ends.extend((server_end, client))
        return server_end, client

    yield connected
    for end in (*ends, server):
        end.close()


Connect = Callable[[], tuple[socket.socket, socket.socket]]


def notices(watch: DisconnectWatch, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not watch.gone and time.monotonic() < deadline:
        time.sleep(0.001)
    return watch.gone


def test_a_client_that_leaves_cuts_the_call_it_waits_for(
    peer: Peer, watcher: DisconnectWatcher, connect: Connect
) -> None:
    asked, released = threading.Event(), threading.Event()

    def answer(_: BaseHTTPRequestHandler) -> None:
        asked.set()
        released.wait(5)

    peer.answers["/"] = answer
    server_end, client = connect()
    started = time.monotonic()

    def leave() -> None:
        asked.wait(5)
        client.close()

    threading.Thread(target=leave).start()
    with watcher.watch(server_end) as watch, pytest.raises(UnavailableError):
        Upstream(peer.url).call("GET", "/", watch=watch)
    assert time.monotonic() - started < 3
    released.set()


def test_a_client_that_left_before_the_call(peer: Peer) -> None:
    watch = DisconnectWatch()
    watch.client_gone()
    peer.answers["/"] = lambda _: time.sleep(1)
    with pytest.raises(UnavailableError) as caught:
        Upstream(peer.url, read_seconds=5).call("GET", "/", watch=watch)
    assert caught.value.code == "peer-lost"


def test_a_finished_call_is_not_cut_any_more(peer: Peer) -> None:
    """The connection may serve somebody else by then."""
    peer.says("/", b"a")
    upstream = Upstream(peer.url)
    watch = DisconnectWatch()
    upstream.call("GET", "/", watch=watch)
    watch.client_gone()
    assert upstream.call("GET", "/")[2] == b"a"
    assert peer.connections == 1


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
def test_every_way_to_leave(watcher: DisconnectWatcher, connect: Connect, how: str) -> None:
    server_end, client = connect()
    with watcher.watch(server_end) as watch:
        assert not notices(watch, 0.05)
        if how == "half-close":
            client.shutdown(socket.SHUT_WR)
        else:
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
            client.close()
        assert notices(watch)


def test_a_client_that_sends_its_next_request_early_has_not_left(
    watcher: DisconnectWatcher, connect: Connect
) -> None:
    server_end, client = connect()
    with watcher.watch(server_end) as watch:
        client.sendall(b"GET / HTTP/1.1\r\n")
        used = time.process_time()
        assert not notices(watch, 0.3)
        assert time.process_time() - used < 0.2  # the watcher does not spin on unread bytes
        assert server_end.recv(3) == b"GET"  # they stay there for the server


def test_many_watches_come_and_go(watcher: DisconnectWatcher, connect: Connect) -> None:
    for _ in range(50):
        server_end, client = connect()
        with watcher.watch(server_end) as watch:
            client.close()
            assert notices(watch)
        server_end.close()
    assert len(watcher._selector.get_map()) == 1  # the waker


def test_one_connection_is_watched_for_each_of_its_requests(
    watcher: DisconnectWatcher, connect: Connect
) -> None:
    server_end, client = connect()
    for _ in range(3):
        with watcher.watch(server_end) as watch:
            assert not watch.gone
    with watcher.watch(server_end) as watch:
        client.close()
        assert notices(watch)


def test_a_load_of_streams_costs_nothing_while_it_flows() -> None:
    watcher = DisconnectWatcher()
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(STREAMS // 4)]
        for client, server_end in pairs:
            stack.callback(client.close)
            stack.callback(server_end.close)
            stack.enter_context(watcher.watch(server_end))
        time.sleep(0.05)
        used = time.process_time() - time.thread_time()
        for client, server_end in pairs:
            server_end.send(b"data: 1\n\n")
            client.recv(100)
        # All threads but this one: the watcher sleeps.
        assert time.process_time() - time.thread_time() - used < 0.1


def test_no_socket_no_watch() -> None:
    with DisconnectWatcher().watch(None) as watch:
        assert not watch.gone


class OddSelector(selectors.DefaultSelector):
    """Fails in ways that a selector should not."""

    fails: list[BaseException]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found: list[tuple[selectors.SelectorKey, int]] = super().select(timeout)
        if self.fails:
            raise self.fails.pop()
        return found


def test_the_watch_of_clients_goes_on(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Else every engine would compute to its end for clients that have gone."""
    monkeypatch.setattr(loops, "FIRST_PAUSE", 0.001)
    selector = OddSelector()
    selector.fails = [OSError("odd"), RecursionError(), ValueError("odd")]
    watcher = DisconnectWatcher(selector)
    server_end, client = connect()
    with watcher.watch(server_end) as watch:
        client.close()
        assert notices(watch)
    assert not selector.fails
    assert capfd.readouterr().err.count("the watch of clients failed: ") == 3
