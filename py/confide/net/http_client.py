"""The HTTP client of the data path: one peer, kept-alive connections, bodies as they arrive.

Why not `requests`, as in calls.py: a proxy has to abort a call while it waits for the first byte
(the app has hung up, the engine still computes), and it has to pass on the events of one read as
one piece. Both need the connection, which `requests` hides. So this is `http.client` with a pool.

Errors: `UnavailableError` with code "peer-unreachable" (no connection), "peer-lost" (a connection
that broke, or an answer that is not HTTP) or "peer-timeout"; `FormatError` "answer-too-large".
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader

from confide.errors import FormatError, UnavailableError
from confide.net.address import split_base_url
from confide.net.chunked import Dechunker
from confide.net.disconnect import DisconnectWatch

STREAMS = 1200
"""Streams that a program on the data path carries at once, and connections that it keeps."""

READ_SIZE = 64 * 1024
"""Most bytes of one read."""


class Upstream:
    """One HTTP peer, named by ``http://host:port`` or ``https://host:port`` (no path, no user)."""

    def __init__(
        self,
        url: str,
        *,
        connect_seconds: float = 10.0,
        read_seconds: float = 600.0,
        idle_connections: int = STREAMS,
        may_send: Callable[[], None] = lambda: None,
    ) -> None:
        """`may_send` raises UnavailableError if the peer must not get a request. It is called after
        connecting and before sending, so it decides about the connected peer.
        """
        parts = split_base_url(url)
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._host = parts.hostname or ""
        self._port = parts.port
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        self._idle_limit = idle_connections
        self._may_send = may_send
        self._idle: list[http.client.HTTPConnection] = []
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

        A kept connection that the peer has closed meanwhile is replaced once. That cannot run a
        sealed request twice: the worker refuses the second one, because it knows the counter. An
        engine, which gets requests in the clear, may compute one twice.
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
        while not fresh:
            with self._lock:
                if not self._idle:
                    break
                connection = self._idle.pop()
            if connection.sock is not None and not _readable(connection.sock):
                return connection, True
            connection.close()
        connection = self._new_connection()
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise self.lost("peer-unreachable", error) from error
        connection.sock.settimeout(self._read_seconds)
        return connection, False

    def _new_connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._connect_seconds)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._connect_seconds, context=self._tls
        )

    def keep(self, connection: http.client.HTTPConnection) -> None:
        """Take back a connection whose answer was read to its end."""
        with self._lock:
            if len(self._idle) < self._idle_limit:
                self._idle.append(connection)
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
        return self._sock is None or _readable(self._sock, seconds)

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
            except TimeoutError as error:
                connection.close()
                raise self._upstream.lost("peer-timeout", error) from error
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                stale = isinstance(error, (ConnectionError, http.client.RemoteDisconnected))
                gone = self._watch is not None and self._watch.gone
                if not (self._reused and stale and not gone):
                    raise self._upstream.lost("peer-lost", error) from error
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
            self._sent = _send(self._connection, *self._request)
        except (OSError, http.client.HTTPException) as error:
            # The answer may be there all the same: `answer` decides.
            self._error = None if _readable(self._sock) else error


def _send(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str],
) -> bool:
    """Send a request, and return whether all of it was sent.

    A peer that answers early does not want the rest. Within TLS only the end of the connection
    shows that: bytes that have arrived may be TLS's own.
    """
    if body is None or len(body) <= READ_SIZE:
        connection.request(method, path, body=body, headers=dict(headers))
        return True
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders()
    view = memoryview(body)
    plain = not isinstance(connection.sock, ssl.SSLSocket)
    for at in range(0, len(body), READ_SIZE):
        if plain and _readable(connection.sock):
            return False
        connection.send(view[at : at + READ_SIZE])
    return True


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
        except TimeoutError as error:
            raise self._upstream.lost("peer-timeout", error) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._upstream.lost("peer-lost", error) from error

    def _has_more(self, seconds: float) -> bool:
        """Whether a read would not block, or stops blocking within this time."""
        sock, response = self._connection.sock, self._response
        if sock is None or response.isclosed() or _readable(sock):
            return True
        # What came with the head is in the reader's buffer, where a poll does not see it.
        timeout = sock.gettimeout()
        sock.settimeout(0)
        try:
            buffered = response.fp.peek(1)
        finally:
            sock.settimeout(timeout)
        return bool(buffered) or _readable(sock, seconds)

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


def _readable(sock: socket.socket | None, seconds: float = 0) -> bool:
    """Whether there are bytes to read, or the peer has closed, within this time."""
    if sock is None:
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(int(seconds * 1000)))
