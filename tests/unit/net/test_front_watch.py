"""The thread that watches connections, round by round."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest

from confide.net import front
from confide.net.admission import Admission
from confide.net.front import Front
from confide.net.request_head import Lane

SOON = 5.0


class Accepted:
    """A connection as gunicorn has it, and the peer's end of it."""

    def __init__(self, stack: ExitStack) -> None:
        ours, theirs = socket.socketpair()
        self.sock = ours
        self.peer = stack.enter_context(theirs)
        self.server: object = None
        self.data_ready = False
        self.parser: object = None


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], float]]:
    """The rounds of the thread, which is not started."""
    found: list[Callable[[], float]] = []
    monkeypatch.setattr(front, "start_loop", lambda _, step: found.append(step))
    return found


def test_a_connection_that_goes_while_its_bytes_come(
    rounds: list[Callable[[], float]], stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one round. An error there would stop the watch of all others for a second or more."""
    monkeypatch.setattr(front, "MAX_WAITING", 1)
    handled: list[object] = []
    watch = Front({lane: (1, Admission(1)) for lane in Lane})
    oldest, newest = Accepted(stack), Accepted(stack)
    first = watch.submit(handled.append, oldest)
    rounds[0]()
    second = watch.submit(handled.append, newest)
    oldest.peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
    rounds[0]()
    assert first.result(0) is False
    assert not second.done()
    assert handled == []
    watch.shutdown()


def test_a_peer_that_takes_no_answer_gets_no_thread_for_another(
    rounds: list[Callable[[], float]], stack: ExitStack
) -> None:
    """A few that ask on and on would hold all threads for health, each for a minute."""
    handled: list[object] = []
    watch = Front({lane: (1, Admission(1)) for lane in Lane})
    deaf, honest = Accepted(stack), Accepted(stack)
    with suppress(BlockingIOError):
        while deaf.sock.send(bytes(4096), socket.MSG_DONTWAIT):
            pass
    for accepted in (deaf, honest):
        accepted.peer.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        watch.submit(handled.append, accepted)
    watch.shutdown(wait=False)
    deadline = time.monotonic() + SOON
    while not handled and time.monotonic() < deadline:
        time.sleep(0.01)
    assert handled == [honest]
    assert rounds
