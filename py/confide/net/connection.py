"""A client's connection as the server reads it: bytes that came early, and an end to waiting.

gunicorn reads from a socket. These are sockets, so nothing of gunicorn changes. What they add:

* Bytes that were read before a thread had the connection are read first. A read never goes past
  the end of the request, so the next one stays for the next turn.
* A read waits until `until`, which the bytes that arrive move a little. So a head or a body has a
  deadline as a whole: one byte every few seconds does not keep it open.
"""

from __future__ import annotations

import errno
import math
import socket
import ssl
import time

from confide.errors import ConfideError, UnavailableError
from confide.net.sockets import readable

MIN_RATE = 32 * 1024
"""Bytes a second that a sender has to reach, once its time for a head or a body is used up."""

READ_SIZE = 64 * 1024
"""Bytes of one read before a thread has the connection."""


class Connection(socket.socket):
    """A plain connection. `sock` is detached: its descriptor is this object's."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(fileno=sock.detach())
        self.early = bytearray()
        self.left = math.inf
        """Bytes of the present request that were not handed over yet; inf if nobody knows."""
        self.until = math.inf
        """Monotonic second at which waiting for bytes ends."""
        self.refused: ConfideError | None = None
        """What the present request gets before an application looks at it."""
        self.body_seconds = 0.0
        """Seconds for a body that is not in `early`."""

    def allow(self, seconds: float) -> None:
        """From now on, the peer has so many seconds, and one more for each `MIN_RATE` bytes."""
        self.until = time.monotonic() + seconds

    def gather(self) -> bool:
        """Take what has come into `early`, without waiting. False if no more will come."""
        try:
            data = super().recv(READ_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.early += data
        return bool(data)

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As of a socket. Raises TimeoutError at `until`, and at the end of the request."""
        if flags:
            return super().recv(size, flags)
        size = int(min(size, self.left))
        if self.early:
            data = bytes(self.early[:size])
            del self.early[:size]
        elif size == 0 or not readable(self, self.until - time.monotonic()):
            raise _too_slow()
        else:
            data = super().recv(size)
            self.until += len(data) / MIN_RATE
        self.left -= len(data)
        return data


class TlsConnection(ssl.SSLSocket):
    """A connection within TLS. `ssl.SSLContext.sslsocket_class` makes these."""

    until: float = math.inf
    refused: ConfideError | None = None
    body_seconds: float = 0.0

    def allow(self, seconds: float) -> None:
        """From now on, the peer has so many seconds."""
        self.until = time.monotonic() + seconds

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """As of a socket. Raises TimeoutError at `until`."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise _too_slow()
        # Within one record, only OpenSSL knows whether a read would wait.
        self.settimeout(None if left == math.inf else left)
        try:
            return super().recv(buflen, flags)
        except TimeoutError as error:
            raise _too_slow() from error


def incomplete_body() -> UnavailableError:
    """The error for a body that did not come in time, or broke off: no fault of the request."""
    return UnavailableError(
        "incomplete-body",
        "the body of the request came too slowly or broke off",
        expected="the whole body in time",
        next="send the request again",
    )


def _too_slow() -> TimeoutError:
    # gunicorn treats a reset as what clients do now and then, and logs nothing.
    return TimeoutError(errno.ECONNRESET, "the peer did not send in time")
