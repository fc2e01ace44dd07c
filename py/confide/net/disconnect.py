"""Notices that a client has hung up while its request waits for another peer.

A server that only writes notices it at the next write. Until then the engine computes an answer
that goes nowhere.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from confide.net.loops import start_loop


class DisconnectWatch:
    """Cuts the call that a request waits for when the client has gone. One per request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._call: socket.socket | None = None
        self.gone = False

    def aborts(self, call: socket.socket) -> None:
        """From now on ``call`` is what to cut; at once if the client has gone already."""
        with self._lock:
            self._call = call
            if self.gone:
                _cut(call)

    def client_gone(self) -> None:
        """Cut the call, if there is one."""
        with self._lock:
            self.gone = True
            if self._call is not None:
                _cut(self._call)

    def release(self) -> bool:
        """Forget the call, which is over; False if it was cut."""
        with self._lock:
            self._call = None
            return not self.gone


def _cut(sock: socket.socket) -> None:
    # A shutdown wakes the thread that is blocked in recv(); it then closes the socket itself.
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


class DisconnectWatcher:
    """One thread that waits for hang-ups of all clients, so that streaming pays nothing for it.

    A client that half-closes its side after the request counts as gone. A client that sends bytes
    before its answer is complete is no longer watched: its bytes hide the end of its stream. The
    next write to it notices the hang-up instead.
    """

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        """`selector`: by default the best one that this system has."""
        self._selector = selector or selectors.DefaultSelector()
        self._lock = threading.Lock()
        # A byte on this pair tells poll() and select() about a new socket. epoll and kqueue would
        # see it by themselves.
        self._waker, wakes = socket.socketpair()
        self._waker.setblocking(False)
        wakes.setblocking(False)
        self._selector.register(wakes, selectors.EVENT_READ)
        start_loop("the watch of clients", partial(self._look, wakes))

    @contextmanager
    def watch(self, client: socket.socket | None) -> Iterator[DisconnectWatch]:
        """Watch the socket that a request came by. With None (a test client) it never fires."""
        watch = DisconnectWatch()
        if client is None:
            yield watch
            return
        with self._lock:
            key = self._selector.register(client, selectors.EVENT_READ, (client, watch))
        self._wake()
        try:
            yield watch
        finally:
            with self._lock:
                self._forget(key)
            watch.release()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full of bytes: the thread wakes anyway
            self._waker.send(b"\0")

    def _forget(self, key: selectors.SelectorKey) -> bool:
        """Stop watching a socket; False if that was done before. Needs the lock."""
        if self._selector.get_map().get(key.fd) is not key:
            return False
        self._selector.unregister(key.fd)
        return True

    def _look(self, wakes: socket.socket) -> float:
        for key, _ in self._selector.select():
            if key.fileobj is wakes:
                with contextlib.suppress(BlockingIOError):
                    wakes.recv(4096)
                continue
            client, watch = key.data
            with self._lock:
                # Forgotten in any case: a socket that was readable once stays so.
                gone = self._forget(key) and _has_left(client)
            if gone:
                watch.client_gone()
        return 0.0


def _has_left(client: socket.socket) -> bool:
    # The end of a stream reads as no bytes. Looking takes nothing away from the server's reader.
    try:
        return not client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
