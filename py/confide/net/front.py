"""Who waits for requests, and which threads answer them.

gunicorn hands each connection that may have a request to an executor, and closes it or keeps it by
the result. `Front` is that executor. Rules of this module:

* A connection has a thread only from when its request is there: the head, and a small body. Before
  that, and while it is closed, one thread watches all of them. So silence costs nothing.
* Health, what is asked about the service, mutual TLS, large bodies and all else have threads of
  their own (`Lane`). None waits for another. Nothing queues for a place: there is one, or the
  answer is 503.
* Each waiting connection has a deadline. If too many wait, the oldest goes.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from confide.encoding.console import say
from confide.errors import ConfideError
from confide.net.admission import Admission, busy
from confide.net.connection import Connection, TlsConnection, incomplete_body
from confide.net.loops import start_loop
from confide.net.request_head import MAX_HEAD, Lane, RequestHead, read_head
from confide.net.sockets import notice_death, writable

HEAD_SECONDS = 10.0
"""Seconds for the head of a request, from its connection or its first byte on, and for a
handshake of TLS."""

BODY_SECONDS = 30.0
"""Seconds for a body, and one more for each `connection.MIN_RATE` bytes that have come."""

WRITE_SECONDS = 60
"""A peer that accepts nothing for this time, while a response is written, is disconnected."""

CLOSE_SECONDS = 5.0
"""Seconds in which a peer may read its answer and hang up, before its connection is closed."""

MAX_WAITING = 1024
"""Connections that wait for their request, and as many that are being closed."""

MAX_DISCARDED = 32 << 20
"""Bytes that are read and dropped of a peer that sends on after its answer."""

REFUSING_THREADS = 4

Places = Mapping[Lane, tuple[int, Admission]]
"""Threads of each lane, and what admits to it."""


class Conn(Protocol):
    """What is used of gunicorn's connection: socket, listener, that data is there, and its reader.

    `parser.unreader.take_buffered()` returns what was read and belongs to no request yet.
    """

    sock: socket.socket
    server: object
    data_ready: bool
    parser: Any


@dataclass(eq=False)
class _Turn:
    """One request of a connection, from waiting for it to its end."""

    handle: Callable[[Any], object]
    conn: Conn
    future: Future[object]
    since: float
    deadline: float
    step: Callable[[_Turn], None]
    late: Callable[[_Turn], None]
    closing: bool = False
    head: RequestHead | None = None
    discarded: int = field(default=0)


class Front(Executor):
    """gunicorn's thread pool. Thread-safe."""

    def __init__(
        self,
        places: Places,
        *,
        apart: Collection[str] = (),
        tls: tuple[object, Callable[[], ssl.SSLContext]] | None = None,
        too_long: bytes = b"",
    ) -> None:
        """`apart` as in `read_head`. `tls` is the address of the listener for TLS, and what makes
        a context for each connection. `too_long` is the answer to a head that is too long.
        """
        self._places = places
        self._apart = frozenset(apart)
        self._tls = tls
        self._too_long = too_long
        self._pools = {
            lane: ThreadPoolExecutor(threads, thread_name_prefix=lane.value)
            for lane, (threads, _) in places.items()
        }
        self._refusing = ThreadPoolExecutor(REFUSING_THREADS, thread_name_prefix="refusing")
        self._inbox: deque[_Turn] = deque()
        # Of those that are not being closed, and of those that are.
        self._waiting: dict[bool, set[_Turn]] = {False: set(), True: set()}
        self._ended = False
        self._selector = selectors.DefaultSelector()
        self._waker, self._wakes = socket.socketpair()
        self._waker.setblocking(False)
        self._wakes.setblocking(False)
        self._selector.register(self._wakes, selectors.EVENT_READ)
        start_loop("the watch of connections", self._watch)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_kwargs: Any) -> Future[Any]:
        """Gunicorn's call: `fn(conn)` answers one request of a connection.

        The result says whether the connection is kept.
        """
        conn: Conn = args[0]
        now = time.monotonic()
        turn = _Turn(fn, conn, Future(), now, now + HEAD_SECONDS, self._look, self._drop)
        turn.future.set_running_or_notify_cancel()
        self._guard(self._begin, turn)
        return turn.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more. Threads that serve are not waited for."""
        self._ended = True
        for pool in (*self._pools.values(), self._refusing):
            pool.shutdown(wait=False, cancel_futures=cancel_futures)

    def _begin(self, turn: _Turn) -> None:
        conn = turn.conn
        conn.data_ready = True
        if isinstance(conn.sock, TlsConnection):
            return self._start(turn, Lane.TLS)
        if isinstance(conn.sock, Connection):
            return self._look(turn)
        notice_death(conn.sock)
        conn.sock.setblocking(False)
        limit = struct.pack("ll", WRITE_SECONDS, 0)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        if self._tls is not None and conn.server == self._tls[0]:
            turn.step = self._shake_soon
            return self._wait(turn)
        conn.sock = Connection(conn.sock)
        return self._look(turn)

    # A plain request.

    def _look(self, turn: _Turn) -> None:
        sock = turn.conn.sock
        assert isinstance(sock, Connection)
        more = sock.gather()
        if turn.head is None:
            turn.head = read_head(sock.early, self._apart)
            if turn.head is not None:
                turn.deadline = time.monotonic() + BODY_SECONDS
                turn.late = self._refuse_late
        if turn.head is not None and len(sock.early) >= turn.head.awaited:
            return self._start_plain(turn)
        if not more:
            return self._drop(turn) if turn.head is None else self._refuse_late(turn)
        if turn.head is None and len(sock.early) > MAX_HEAD:
            with suppress(OSError):
                sock.send(self._too_long)
            return self._close(turn)
        return self._wait(turn)

    def _start_plain(self, turn: _Turn, refused: ConfideError | None = None) -> None:
        sock, head = turn.conn.sock, turn.head
        assert isinstance(sock, Connection) and head is not None
        if not writable(sock):
            # It asks on and takes no answer. The next one would hold a thread.
            return self._drop(turn)
        sock.left = head.size
        # All that was awaited is there, or came too late. Only a large body has time to come.
        sock.until = 0.0
        sock.body_seconds = BODY_SECONDS if head.awaited < head.size else 0.0
        self._start(turn, head.lane, refused)

    def _refuse_late(self, turn: _Turn) -> None:
        self._start_plain(turn, incomplete_body())

    # A request within TLS, from a peer that has shown its certificate.

    def _shake_soon(self, turn: _Turn) -> None:
        self._pools[Lane.TLS].submit(self._guard, self._shake, turn)

    def _shake(self, turn: _Turn) -> None:
        """One step of the handshake. It never waits for the peer."""
        assert self._tls is not None
        conn = turn.conn
        try:
            if not isinstance(conn.sock, TlsConnection):
                context = self._tls[1]()
                context.sslsocket_class = TlsConnection
                conn.sock = context.wrap_socket(
                    conn.sock, server_side=True, do_handshake_on_connect=False
                )
            assert isinstance(conn.sock, TlsConnection)
            conn.sock.do_handshake()
        except ssl.SSLWantReadError:
            return self._wait(turn)
        except (OSError, ConfideError):
            return self._drop(turn)
        return self._start(turn, Lane.TLS)

    # From here on, both.

    def _start(self, turn: _Turn, lane: Lane, refused: ConfideError | None = None) -> None:
        sock = turn.conn.sock
        assert isinstance(sock, (Connection, TlsConnection))
        if isinstance(sock, TlsConnection):
            sock.allow(HEAD_SECONDS)
        admission = self._places[lane][1]
        if refused is None:
            reason = admission.enter()
            refused = busy(reason) if reason else None
        sock.refused = refused
        if refused is not None:
            self._refusing.submit(self._serve, turn, None)
        else:
            self._pools[lane].submit(self._serve, turn, admission)

    def _serve(self, turn: _Turn, admission: Admission | None) -> None:
        result: object = False
        try:
            result = turn.handle(turn.conn)
        except Exception as error:
            say(f"unexpected {type(error).__name__} while serving")
        finally:
            if admission is not None:
                admission.leave()
        self._guard(self._after if result else self._close, turn)

    def _after(self, turn: _Turn) -> None:
        sock = turn.conn.sock
        if not isinstance(sock, Connection):
            return turn.future.set_result(True)
        # A body whose end nobody knew before may have been read too far.
        sock.early[:0] = turn.conn.parser.unreader.take_buffered()
        if not sock.early:
            return turn.future.set_result(True)
        # The next request has come along: no event of the socket will tell.
        turn.head, turn.since = None, time.monotonic()
        turn.deadline, turn.late = turn.since + HEAD_SECONDS, self._drop
        return self._look(turn)

    def _close(self, turn: _Turn) -> None:
        """Let the peer read its answer. Closing at once may destroy it (RFC 9112, 9.6)."""
        sock = turn.conn.sock
        if not isinstance(sock, Connection):
            return self._drop(turn)
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            return self._drop(turn)
        turn.since = time.monotonic()
        turn.deadline, turn.closing = turn.since + CLOSE_SECONDS, True
        turn.step, turn.late = self._discard, self._drop
        return self._discard(turn)

    def _discard(self, turn: _Turn) -> None:
        sock = turn.conn.sock
        assert isinstance(sock, Connection)
        more = sock.gather()
        turn.discarded += len(sock.early)
        sock.early.clear()
        if more and turn.discarded <= MAX_DISCARDED:
            self._wait(turn)
        else:
            self._drop(turn)

    def _drop(self, turn: _Turn) -> None:
        """Let gunicorn close the connection, without waiting for the peer once more."""
        sock = turn.conn.sock
        if isinstance(sock, Connection):
            sock.left = 0
        elif isinstance(sock, TlsConnection):
            sock.until = 0.0
        else:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        turn.future.set_result(False)

    # The thread that watches.

    def _wait(self, turn: _Turn) -> None:
        self._inbox.append(turn)
        with suppress(BlockingIOError):  # full of bytes: the thread wakes anyway
            self._waker.send(b"\0")

    def _watch(self) -> float:
        for key, _ in self._selector.select(1.0 if any(self._waiting.values()) else None):
            if key.fileobj is self._wakes:
                with suppress(BlockingIOError):
                    self._wakes.recv(4096)
                while self._inbox:
                    self._guard(self._register, self._inbox.popleft())
            elif self._forget(key.data):
                self._guard(key.data.step, key.data)
        now = time.monotonic()
        everybody = self._waiting[False] | self._waiting[True]
        for turn in [turn for turn in everybody if turn.deadline <= now]:
            self._forget(turn)
            self._guard(turn.late, turn)
        return 0.0

    def _register(self, turn: _Turn) -> None:
        self._selector.register(turn.conn.sock, selectors.EVENT_READ, turn)
        alike = self._waiting[turn.closing]
        alike.add(turn)
        if len(alike) > MAX_WAITING:
            oldest = min(alike, key=lambda other: other.since)
            self._forget(oldest)
            self._drop(oldest)

    def _forget(self, turn: _Turn) -> bool:
        """Watch it no more. False if it went earlier in this round, for another one."""
        if turn not in self._waiting[turn.closing]:
            return False
        self._waiting[turn.closing].remove(turn)
        self._selector.unregister(turn.conn.sock)
        return True

    def _guard(self, step: Callable[[_Turn], None], turn: _Turn) -> None:
        """A step that fails ends its connection, and nothing else."""
        try:
            step(turn)
        except Exception as error:
            if not self._ended:
                say(f"unexpected {type(error).__name__} while waiting for a request")
            if not turn.future.done():
                turn.future.set_result(False)
