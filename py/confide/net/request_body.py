"""The body of a request: when it is read it has room, and a deadline; when it is not, it costs
nothing.

An application may refuse by path, header or key before it reads. What it then reads counts against
the bytes that this program holds at once, if it is large. Small ones are there already (front.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from confide.net.admission import Bodies
from confide.net.connection import Connection, TlsConnection, incomplete_body
from confide.net.request_head import SMALL_BODY

MAX_BODIES = 128 << 20
"""Bytes of large bodies that a program holds at once."""

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def bounded(app: WSGIApplication) -> WSGIApplication:
    """The application; bodies count until it has its answer, or the head of one that streams."""
    counter = Bodies(MAX_BODIES)

    def call(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        body = _Body(environ, counter)
        environ["wsgi.input"] = body
        try:
            return app(environ, start)
        finally:
            body.end()

    return call


class _Body:
    """`wsgi.input`. Raises ConfideError "incomplete-body", UnavailableError "busy"."""

    def __init__(self, environ: WSGIEnvironment, bodies: Bodies) -> None:
        self._input: IO[bytes] = environ["wsgi.input"]
        self._sock = environ.get("gunicorn.socket")
        announced = environ.get("CONTENT_LENGTH", "")
        self._left = int(announced) if announced.isdecimal() else None
        self._bodies = bodies
        self._begun = False
        self._taken = 0

    def read(self, size: int = -1) -> bytes:
        """As of a file."""
        if not self._begun:
            self._begin()
        try:
            data = self._input.read(size)
        except TimeoutError as error:
            raise incomplete_body() from error
        if self._left is not None:
            if size and self._left and not data:
                raise incomplete_body()
            self._left -= len(data)
        elif data:
            self._take(len(data))
        return data

    def _begin(self) -> None:
        self._begun = True
        if self._left is not None and self._left > SMALL_BODY:
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
