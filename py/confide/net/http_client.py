"""The HTTP client of the data path: one peer, kept-alive connections, bodies as they arrive.

Why not `requests`, as in calls.py: a proxy has to abort a call while it waits for the first byte
(the app has hung up, the engine still computes), and it has to pass on the events of one read as
one piece. Both need the connection, which `requests` hides. So this is `http.client` with a pool.

Errors: `UnavailableError` with code "peer-unreachable" (no connection), "peer-lost" (a connection
that broke, or an answer that is not HTTP) or "peer-timeout" (nothing came on one that stands);
`FormatError` "answer-too-large".
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader

from confide.errors import FormatError, UnavailableError
from confide.net.address import split_base_url
from confide.net.boot_clock import boot_seconds
from confide.net.chunked import Dechunker
from confide.net.disconnect import DisconnectWatch
from confide.net.http_sending import send_request
from confide.net.sockets import notice_death, readable

STREAMS = 1200
"""Streams that a program on the data path carries at once, and connections that it keeps."""

READ_SIZE = 64 * 1024
"""Most bytes of one read."""

IDLE_SECONDS = 30.0
"""A connection that was not used for this time is not used again: less than what servers and
balancers keep, and a network that has changed since says nothing."""


class StaleConnectionError(UnavailableError):
    """A kept connection broke before an answer. Nobody can say whether the peer has the request."""


class Upstream:
    """One HTTP peer, named by ``http://host:port`` or ``https://host:port`` (no path, no user)."""

    def __init__(
        self,
        url: str,
        *,
        connect_seconds: float = 10.0,
        read_seconds: float = 600.0,
        idle_connections: int = STREAMS,
        connection: Callable[[float], http.client.HTTPConnection] | None = None,
        resends: bool = True,
        may_send: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = boot_seconds,
    ) -> None:
        """`may_send` raises UnavailableError if the peer must not get a request. It is called after
        connecting and before sending, so it decides about the connected peer.

        `resends`: whether the same bytes may reach the peer twice. They do when a kept connection
        breaks before an answer. A sealed request would be refused the second time, as a replay.

        `connection` makes one that times out after so many seconds, if it is not one to the host
        and port of the URL.
        """
        parts = split_base_url(url)
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._host = parts.hostname or ""
        self._port = parts.port
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._idle_limit = idle_connections
        self._connection = connection
        self.resends = resends
        self._may_send = may_send
        self._clock = clock
        # The one that was used last is at the end.
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        watch: DisconnectWatch | None = None,
        limit: int = 1 << 20,
    ) -> tuple[int, str, bytes]:
        """One exchange with a small answer: (status, content type, at most ``limit`` bytes)."""
        with self.open(method, path, body=body, headers=headers, watch=watch) as answer:
            return answer.status, answer.content_type, answer.read(limit)

    def open(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        watch: DisconnectWatch | None = None,
    ) -> UpstreamAnswer:
        """Send a request, return when the answer's head has come. The caller closes the answer.

        Raises StaleConnectionError if a kept connection breaks, unless this upstream `resends`:
        then another connection takes its place, once.
        """
        return self.begin(method, path, body=body, headers=headers, watch=watch).answer()

    def begin(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        watch: DisconnectWatch | None = None,
    ) -> Pending:
        """Send a request, and do not wait for the answer. The caller takes it, or closes it."""
        return Pending(self, method, path, body, headers or {}, watch)

    def take(self, *, fresh: bool) -> tuple[http.client.HTTPConnection, bool]:
        """A connection to send on, and whether it was used before."""
        connection, reused = self._take(fresh=fresh)
        try:
            self._may_send()
        except UnavailableError:
            connection.close()
            raise
        return connection, reused

    def _take(self, *, fresh: bool) -> tuple[http.client.HTTPConnection, bool]:
        self._drop_idle(self._clock() - IDLE_SECONDS)
        while not fresh:
            with self._lock:
                if not self._idle:
                    break
                _, connection = self._idle.pop()
            if connection.sock is not None and not readable(connection.sock):
                return connection, True
            connection.close()
        connection = self._new_connection()
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise self.lost("peer-unreachable", error) from error
        notice_death(connection.sock)
        connection.sock.settimeout(self._read_seconds)
        return connection, False

    def stale(self, error: Exception) -> StaleConnectionError:
        """The error for a kept connection that broke. The others go with it: their way is the same.

        Otherwise each of them would cost a request of its own after a change of network.
        """
        self._drop_idle(float("inf"))
        lost = self.lost("peer-lost", error)
        return StaleConnectionError(lost.code, lost.message, seen=lost.seen, next=lost.next)

    def _drop_idle(self, used_until: float) -> None:
        """Close the idle connections that were last used until then."""
        with self._lock:
            kept = [idle for idle in self._idle if idle[0] > used_until]
            dropped, self._idle = self._idle[: len(self._idle) - len(kept)], kept
        for _, connection in dropped:
            connection.close()

    def _new_connection(self) -> http.client.HTTPConnection:
        if self._connection is not None:
            return self._connection(self._connect_seconds)
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._connect_seconds)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._connect_seconds, context=self._tls
        )

    def keep(self, connection: http.client.HTTPConnection) -> None:
        """Take back a connection whose answer was read to its end."""
        with self._lock:
            if len(self._idle) < self._idle_limit:
                self._idle.append((self._clock(), connection))
                return
        connection.close()

    def lost(self, code: str, error: Exception) -> UnavailableError:
        """The error for a peer that failed in this way."""
        what = {
            "peer-unreachable": "cannot be reached",
            "peer-timeout": "did not answer in time",
            "peer-lost": "closed the connection or did not speak HTTP",
        }[code]
        return UnavailableError(
            code,
            f"{self.url} {what}",
            seen=type(error).__name__,
            next="check that it runs and that the address is right",
        )


class Pending:
    """A request that was sent. Take its `answer`, or `close` it."""

    def __init__(
        self,
        upstream: Upstream,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        watch: DisconnectWatch | None,
    ) -> None:
        self._upstream = upstream
        self._request = (method, path, body, headers)
        self._watch = watch
        self._send(fresh=False)

    def ready(self, seconds: float) -> bool:
        """Whether the answer begins to arrive, or the connection ends, within this time."""
        return self._sock is None or readable(self._sock, seconds)

    def answer(self) -> UpstreamAnswer:
        """Wait for the answer's head. Raises as `Upstream.open`."""
        while True:
            connection = self._connection
            try:
                if self._error is not None:
                    raise self._error
                response = connection.getresponse()
                return UpstreamAnswer(
                    self._upstream, connection, response, self._watch, reusable=self._sent
                )
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                code = _code_of(error)
                gone = self._watch is not None and self._watch.gone
                # An OSError includes the end of the connection in place of an answer.
                broke = isinstance(error, OSError) and code == "peer-lost"
                if gone or not (self._reused and broke):
                    raise self._upstream.lost(code, error) from error
                stale = self._upstream.stale(error)
                if not self._upstream.resends:
                    raise stale from error
            self._send(fresh=True)

    def close(self) -> None:
        """Give up: cut the connection, so that the peer stops."""
        self._connection.close()

    def _send(self, *, fresh: bool) -> None:
        self._connection, self._reused = self._upstream.take(fresh=fresh)
        self._sock = self._connection.sock
        self._sent = False
        self._error: OSError | http.client.HTTPException | None = None
        if self._watch is not None and self._sock is not None:
            self._watch.aborts(self._sock)
        try:
            self._sent = send_request(self._connection, *self._request)
        except (OSError, http.client.HTTPException) as error:
            # The answer may be there all the same: `answer` decides.
            self._error = None if readable(self._sock) else error


class UpstreamAnswer:
    """An answer whose head has arrived. Take ``pieces()``, or ``read()``; then ``close()``."""

    def __init__(
        self,
        upstream: Upstream,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        watch: DisconnectWatch | None,
        *,
        reusable: bool,
    ) -> None:
        self._upstream = upstream
        self._reusable = reusable
        self._connection = connection
        self._response = response
        self._watch = watch
        self._complete = False
        self.status = response.status
        self.length = response.length
        """Bytes of the body if they were announced, else None."""
        self.content_type = response.getheader("Content-Type") or ""
        self.date = response.getheader("Date") or ""

    def header(self, name: str) -> str:
        """A header of the answer, "" if it has none of this name."""
        return self._response.getheader(name) or ""

    def pieces(self, every: float | None = None) -> Iterator[bytes]:
        """The body in pieces, each as soon as one byte of it is there.

        With `every`, an empty piece says that nothing has come for so many seconds; else none is
        empty. Raises UnavailableError if the body ends before its announced end.
        """
        response = self._response
        try:
            if response.chunked:
                dechunker = Dechunker()
                reader: BufferedReader = response.fp
                while not dechunker.done:
                    while every is not None and not self._has_more(every):
                        yield b""
                    piece = dechunker.feed(reader.read1(READ_SIZE))
                    if piece:
                        yield piece
            else:
                seen = 0
                while True:
                    while every is not None and not self._has_more(every):
                        yield b""
                    piece = response.read1(READ_SIZE)
                    if not piece:
                        break
                    seen += len(piece)
                    yield piece
                if self.length is not None and seen != self.length:
                    raise http.client.IncompleteRead(b"")
            self._complete = True
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._upstream.lost(_code_of(error), error) from error

    def _has_more(self, seconds: float) -> bool:
        """Whether a read would not block, or stops blocking within this time."""
        sock, response = self._connection.sock, self._response
        if sock is None or response.isclosed() or readable(sock):
            return True
        # What came with the head is in the reader's buffer, where a poll does not see it.
        timeout = sock.gettimeout()
        sock.settimeout(0)
        try:
            buffered = response.fp.peek(1)
        finally:
            sock.settimeout(timeout)
        return bool(buffered) or readable(sock, seconds)

    def read(self, limit: int) -> bytes:
        """The whole body; FormatError "answer-too-large" beyond ``limit`` bytes."""
        parts = []
        size = 0
        for piece in self.pieces():
            size += len(piece)
            if size > limit:
                raise FormatError(
                    "answer-too-large",
                    f"{self._upstream.url} sent too large an answer",
                    expected=f"at most {limit} bytes",
                )
            parts.append(piece)
        return b"".join(parts)

    def close(self) -> None:
        """Keep the connection if the body was read to its end, else cut it, so the peer stops."""
        connection, response = self._connection, self._response
        # Before the connection serves another request, which this client must not cut off.
        cut = self._watch is not None and not self._watch.release()
        keep = self._complete and self._reusable and not cut and not response.will_close
        if keep and connection.sock is not None:
            # Closing the response leaves the connection open for the next request.
            response.close()
            self._upstream.keep(connection)
        else:
            connection.close()
            response.close()
        self._complete = False

    def __enter__(self) -> UpstreamAnswer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _code_of(error: Exception) -> str:
    """Silence on a connection that stands is "peer-timeout". The kernel's own ETIMEDOUT is not."""
    silent = isinstance(error, TimeoutError) and error.errno is None
    return "peer-timeout" if silent else "peer-lost"
