"""What the kernel does for a connection that may be silent for long.

A network that changes, a machine that loses its power, and a balancer that forgets a connection say
nothing. So the kernel asks, and gives up a connection that nothing comes back on.
"""

from __future__ import annotations

import math
import select
import socket

DEAD_SECONDS = 30
"""A connection whose other end has confirmed nothing for about this time ends."""

_PROBE_AFTER = 15
_PROBE_EVERY = 5


def notice_death(sock: socket.socket) -> None:
    """Have the kernel end a TCP connection whose other end is gone: with ETIMEDOUT.

    Bytes that were sent count for `TCP_USER_TIMEOUT`, which only Linux has (tcp(7)). While nothing
    is sent, keep-alive probes do. Sockets of other kinds stay as they are.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # macOS has another name for the first one.
    idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
    for option, value in (
        (idle, _PROBE_AFTER),
        (getattr(socket, "TCP_KEEPINTVL", None), _PROBE_EVERY),
        (getattr(socket, "TCP_KEEPCNT", None), (DEAD_SECONDS - _PROBE_AFTER) // _PROBE_EVERY),
        (getattr(socket, "TCP_USER_TIMEOUT", None), DEAD_SECONDS * 1000),
    ):
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def readable(sock: socket.socket | None, seconds: float = 0) -> bool:
    """Whether there are bytes to read, or the peer has closed, within this time."""
    if sock is None:
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(None if seconds == math.inf else max(0, math.ceil(seconds * 1000))))


def writable(sock: socket.socket) -> bool:
    """Whether there is room for a small answer, or the connection has ended (poll(2))."""
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    return bool(poll.poll(0))
