"""HTTP over a Unix socket whose server runs as one user, checked at each connect.

A program that may write into the socket's folder may put another socket there, or a link to one. So
the kernel is asked who listens, before anything is sent.
"""

from __future__ import annotations

import http.client
import socket
import struct
from pathlib import Path

_CREDENTIALS = struct.Struct("=iII")  # struct ucred: process, user, group


class UnixConnection(http.client.HTTPConnection):
    """A connection to the socket at `path`, on which the user with the number `user` listens."""

    def __init__(self, path: Path, user: int, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self._user = user

    def connect(self) -> None:
        """Connect. Raises OSError, PermissionError if somebody else listens.

        A server that takes no connections does not make this wait: once its queue is full, the
        kernel refuses.
        """
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(self.timeout)
            sock.connect(str(self._path))
            if peer_user(sock) != self._user:
                raise PermissionError(f"the socket {self._path} is not user {self._user}'s")
        except OSError:
            sock.close()
            raise
        self.sock = sock


def peer_user(sock: socket.socket) -> int:
    """The user who made the listening socket that this one is connected to. See unix(7)."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(data)[1]
    return user
