"""A Unix socket as systemd opens it for a service of the machine, and the service on a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from confide.guest.attest.local import Operation, serve


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that listens at `path`; the server stops at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        yield listener
        listener.shutdown(socket.SHUT_RDWR)


def start(listener: socket.socket, operations: Mapping[str, Operation]) -> Path:
    """Serve on the socket; returns its path."""
    threading.Thread(target=serve, args=(listener, operations), daemon=True).start()
    return Path(listener.getsockname())
