"""Noticing that a client has gone while its request waits for somebody else.

A server that only writes learns of it at the next write; until then an engine computes for nobody.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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

    A client that half-closes its side after the request counts as gone.
    """

    _EVENTS = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR | select.EPOLLONESHOT

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watches: dict[int, Callable[[], None]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="disconnects", daemon=True).start()

    @contextmanager
    def watch(self, client: socket.socket | None) -> Iterator[DisconnectWatch]:
        """A watch on the socket a request came by; on none (a test client) it never fires."""
        watch = DisconnectWatch()
        if client is None:
            yield watch
            return
        number = client.fileno()
        with self._lock:
            self._watches[number] = watch.client_gone
            self._epoll.register(number, self._EVENTS)
        try:
            yield watch
        finally:
            with self._lock:
                del self._watches[number]
                self._epoll.unregister(number)
            watch.release()

    def _run(self) -> None:
        while True:
            for number, _ in self._epoll.poll():
                with self._lock:
                    callback = self._watches.get(number)
                if callback is not None:
                    callback()
