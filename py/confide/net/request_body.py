"""The body of a request: whole, bounded and in time, or an error. Never a shorter one.

An application may refuse by path, header or key before it reads. Then a body costs nothing. What it
reads has a deadline, and counts against the bytes that this program holds at once if it is large.
Small bodies are there already (front.py).

gunicorn checks the framing of a chunked body. Between it and Flask two cases look like the end of a
body: a sender that hangs up before the length that it announced, and a chunked body that is longer
than the limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.exceptions import RequestEntityTooLarge

from confide.errors import FormatError
from confide.net.admission import Bodies
from confide.net.connection import Connection, TlsConnection, incomplete_body
from confide.net.request_head import SMALL_BODY

MAX_BODIES = 128 << 20
"""Bytes of large bodies that a program holds at once."""

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def require_one_length(environ: WSGIEnvironment) -> None:
    """Raise FormatError "bad-http" for a transfer coding other than chunked (RFC 9112, 6.1)."""
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    if coding is not None and coding.strip().lower() != "chunked":
        raise FormatError(
            "bad-http",
            "the body of the request has a transfer coding that this server does not take",
            expected="chunked, or a length",
            seen=ascii(coding)[:80],
        )


def bounded(app: WSGIApplication, limit: int) -> WSGIApplication:
    """The application; bodies count until it has its answer, or the head of one that streams.

    `limit`: the most bytes of a body without an announced length.
    """
    counter = Bodies(MAX_BODIES)

    def call(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        body = _Body(environ, limit, counter)
        environ["wsgi.input"] = body
        try:
            return app(environ, start)
        finally:
            body.end()

    return call


class _Body:
    """`wsgi.input`. Raises UnavailableError "incomplete-body" or "busy", RequestEntityTooLarge."""

    def __init__(self, environ: WSGIEnvironment, limit: int, bodies: Bodies) -> None:
        self._input: IO[bytes] = environ["wsgi.input"]
        self._sock = environ.get("gunicorn.socket")
        # gunicorn refuses a length that is no number, and one beside a transfer coding.
        self._chunked = "HTTP_TRANSFER_ENCODING" in environ
        self._left = limit if self._chunked else int(environ.get("CONTENT_LENGTH") or 0)
        self._bodies = bodies
        self._begun = False
        self._taken = 0

    def read(self, size: int = -1) -> bytes:
        """As of a file."""
        if not self._begun:
            self._begin()
        wanted = self._left if size < 0 else min(size, self._left)
        if self._chunked and (size < 0 or size >= self._left):
            wanted += 1  # a reader that stops at the limit would not see that there is more
        try:
            data = self._input.read(wanted)
        except (TimeoutError, ConnectionError) as error:
            raise incomplete_body() from error
        if self._chunked:
            if len(data) > self._left:
                raise RequestEntityTooLarge
            self._take(len(data))
        elif wanted and not data:
            raise incomplete_body()
        self._left -= len(data)
        return data

    def _begin(self) -> None:
        self._begun = True
        if not self._chunked and self._left > SMALL_BODY:
            self._take(self._left)
        if isinstance(self._sock, (Connection, TlsConnection)):
            self._sock.allow(self._sock.body_seconds)

    def _take(self, size: int) -> None:
        self._bodies.take(size)
        self._taken += size

    def end(self) -> None:
        """From here on, nothing is waited for, and nothing is held."""
        if isinstance(self._sock, (Connection, TlsConnection)):
            self._sock.allow(0)
        self._bodies.give(self._taken)
        self._taken = 0
