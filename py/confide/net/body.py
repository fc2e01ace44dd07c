"""The body of a request, as its sender meant it: whole, bounded, or an error.

gunicorn checks the framing of a chunked body. Between it and Flask two cases look like the end of a
body: a sender that hangs up before the length that it announced, and a chunked body that is longer
than the limit. Both would give the application a shorter body.
"""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING

from werkzeug.exceptions import RequestEntityTooLarge

from confide.errors import FormatError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def guard_body(environ: WSGIEnvironment, limit: int) -> None:
    """Have `wsgi.input` end only where the body ends. To be called before anybody reads it.

    `limit`: the most bytes of a body without an announced length. Raises FormatError "bad-http"
    for a transfer coding other than chunked (RFC 9112, 6.1).
    """
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    if coding is not None and coding.strip().lower() != "chunked":
        raise FormatError(
            "bad-http",
            "the body of the request has a transfer coding that this server does not take",
            expected="chunked, or a length",
            seen=ascii(coding)[:80],
        )
    # gunicorn refuses a length that is no number, and one beside a transfer coding.
    announced = int(environ.get("CONTENT_LENGTH") or 0) if coding is None else None
    environ["wsgi.input"] = _Body(environ["wsgi.input"], announced, limit)


class _Body(io.RawIOBase):
    """`announced` bytes; or None: a chunked body of at most `limit` bytes."""

    def __init__(self, stream: IO[bytes], announced: int | None, limit: int) -> None:
        super().__init__()
        self._stream = stream
        self._announced = announced
        self._limit = limit
        self._seen = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]  # a buffer of any kind
        """Raises OSError for a body that was cut, RequestEntityTooLarge for one over the limit."""
        size = len(buffer)
        if self._announced is not None:
            data = self._stream.read(min(size, self._announced - self._seen))
            if not data and self._seen < self._announced:
                raise ConnectionResetError("the body ended before its announced length")
        else:
            # One byte more: whoever reads up to the limit would not find out that there is more.
            room = self._limit - self._seen
            data = self._stream.read(min(size, room) + (size >= room))
            if len(data) > room:
                raise RequestEntityTooLarge
        self._seen += len(data)
        buffer[: len(data)] = data
        return len(data)
