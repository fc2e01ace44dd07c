"""The HTTP client for small calls: one request and one bounded answer, on `requests`.

A call ends in time and takes bounded memory, however its peer behaves. Each call has its own
connection. Redirects, cookies, compression, proxies and the environment play no part.

`requests` gives no access to the connection, so http_client.py serves the other calls: streams, and
calls that end when a client hangs up.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from threading import Timer
from typing import Any, Literal, NamedTuple

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, ReadTimeoutError

from confide.errors import FormatError, UnavailableError
from confide.net.address import split_base_url
from confide.net.disconnect import DisconnectWatch

_HEADERS = {"User-Agent": "confide", "Accept-Encoding": "identity", "Connection": "close"}
_FAILURES = {
    "peer-unreachable": "cannot be reached",
    "peer-timeout": "did not answer in time",
    "peer-lost": "closed the connection or did not speak HTTP",
}


class Answer(NamedTuple):
    """What a peer answered. The body has at most as many bytes as the caller allowed."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str]

    def header(self, name: str) -> str:
        """A header, "" if it has none of this name (in any case)."""
        return self.headers.get(name, "")


class Caller:
    """Calls one HTTP peer, named by ``http://host:port`` or ``https://host:port``. Thread-safe."""

    def __init__(
        self,
        url: str,
        *,
        connect_seconds: float = 10.0,
        read_seconds: float = 120.0,
        total_seconds: float = 180.0,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        check_peer: Callable[[ssl.SSLSocket], object] = lambda _: None,
    ) -> None:
        """Limits: to connect, between two reads, and for a whole call that has connected.

        `tls` makes the context of an https connection. It decides alone whom to trust.
        `check_peer` may refuse a TLS peer by an error, before it gets the request.
        """
        self._parts = split_base_url(url)
        self.url = f"{self._parts.scheme}://{self._parts.netloc}"
        self._timeouts = (connect_seconds, read_seconds)
        self._total_seconds = total_seconds
        self._tls = tls
        self._check_peer = check_peer

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limit: int = 1 << 20,
        seconds: float = float("inf"),
    ) -> Answer:
        """One exchange. The body of the answer has at most `limit` bytes.

        `seconds` may shorten the limits of time, that for connecting too.

        Raises UnavailableError "peer-unreachable" (no connection), "peer-lost" (it broke, or the
        answer is not HTTP) or "peer-timeout", and FormatError "answer-too-large".
        """
        request = requests.Request(
            method, self.url + path, headers=_HEADERS | dict(headers or {}), data=body
        ).prepare()
        watch = _Watch(self._check_peer)
        with ExitStack() as stack:
            stack.callback(watch.close)
            seconds = max(0.001, min(seconds, self._total_seconds))
            deadline = Timer(seconds, watch.client_gone)
            deadline.daemon = True
            deadline.start()
            stack.callback(deadline.cancel)
            pool = stack.enter_context(self._pool(watch))
            try:
                # Not through a Session: it reads the body of a redirect without a limit.
                timeouts = min(self._timeouts[0], seconds), min(self._timeouts[1], seconds)
                answer = _Adapter(pool).send(request, stream=True, timeout=timeouts)
                stack.callback(answer.close)
                data = _read(answer.raw, limit + 1)
            except (requests.RequestException, HTTPError, OSError) as error:
                raise self._failed(watch, error) from error
        if watch.gone:
            raise self._failed(watch, TimeoutError())
        if len(data) > limit:
            raise FormatError(
                "answer-too-large",
                f"{self.url} sent too large an answer",
                expected=f"at most {limit} bytes",
            )
        content_type = answer.headers.get("Content-Type", "")
        return Answer(answer.status_code, content_type, data, answer.headers)

    def _pool(self, watch: _Watch) -> HTTPConnectionPool:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "http":
            return _PlainPool(host, port, watch=watch)
        context = self._tls()
        # urllib3 would check the host's name even if the context does not.
        names: Literal[False] | None = None if context.check_hostname else False
        return _TlsPool(host, port, watch=watch, ssl_context=context, assert_hostname=names)

    def _failed(self, watch: _Watch, error: Exception) -> UnavailableError:
        timeout = isinstance(error, (requests.Timeout, ReadTimeoutError))
        if watch.gone or (watch.connected and timeout):
            code = "peer-timeout"
        else:
            code = "peer-lost" if watch.connected else "peer-unreachable"
        return UnavailableError(
            code,
            f"{self.url} {_FAILURES[code]}",
            seen=type(error).__name__,
            next="check that it runs and that the address is right",
        )


def _read(raw: HTTPResponse, size: int) -> bytes:
    """The body, or its first `size` bytes. Raises HTTPError if it ends before its announced end."""
    # read() would take a body that is too short. read1() complains when it finds the end.
    body = bytearray()
    while len(body) < size and (piece := raw.read1(size - len(body), decode_content=False)):
        body += piece
    return bytes(body)


class _Watch(DisconnectWatch):
    """The connection of one call. Its time limit cuts it as a client that hangs up would."""

    def __init__(self, check_peer: Callable[[ssl.SSLSocket], object]) -> None:
        super().__init__()
        self.connected = False
        self._check_peer = check_peer
        self._copy: socket.socket | None = None

    def opened(self, sock: socket.socket) -> socket.socket:
        # TLS takes the socket over and hides it during its handshake. A copy can still cut it.
        self._copy = sock.dup()
        self.aborts(self._copy)
        return sock

    def ready(self, sock: socket.socket | None) -> None:
        self.connected = True
        if isinstance(sock, ssl.SSLSocket):
            self._check_peer(sock)

    def close(self) -> None:
        self.release()
        if self._copy is not None:
            self._copy.close()


class _PlainConnection(HTTPConnection):
    def __init__(self, *arguments: Any, watch: _Watch, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._watch = watch

    def _new_conn(self) -> socket.socket:
        return self._watch.opened(super()._new_conn())

    def connect(self) -> None:
        super().connect()
        self._watch.ready(self.sock)


class _TlsConnection(HTTPSConnection):
    def __init__(self, *arguments: Any, watch: _Watch, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._watch = watch

    def _new_conn(self) -> socket.socket:
        return self._watch.opened(super()._new_conn())

    def connect(self) -> None:
        super().connect()
        self._watch.ready(self.sock)


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    """Sends over one pool, and leaves its TLS context as it is."""

    def __init__(self, pool: HTTPConnectionPool) -> None:
        super().__init__()
        self._pool = pool

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool

    def cert_verify(self, *_: Any) -> None:
        """Load no other certificates."""
