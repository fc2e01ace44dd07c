"""A program whose loopback dies under its connections, in a network namespace of its own.

It prints a JSON object: how each of three uses of a connection ended, and after how many seconds.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from confide.errors import UnavailableError
from confide.net import sockets
from confide.net.http_client import Upstream
from tests.support.peer import Peer, peers

DEAD_SECONDS = 2
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def loopback(*, up: bool) -> None:
    """What a cable, an access point or a machine without power does (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = struct.pack("16sh14x", b"lo", _IFF_UP if up else 0)
        fcntl.ioctl(control, _SIOCSIFFLAGS, flags)


def ended(use: Callable[[], object]) -> tuple[str, float]:
    """The kind of error that a use ends with, and after how many seconds."""
    start = time.monotonic()
    try:
        use()
        kind = "an answer"
    except UnavailableError as error:
        kind = f"{type(error).__name__} {error.code}"
    except OSError as error:
        kind = type(error).__name__
    return kind, time.monotonic() - start


def kept_connection(peer: Peer) -> tuple[str, float]:
    """The next request after the network has changed."""
    upstream = Upstream(peer.url, resends=False)
    upstream.call("GET", "/")
    loopback(up=False)
    return ended(lambda: upstream.call("GET", "/"))


def waiting(peer: Peer) -> tuple[str, float]:
    """A request that has arrived, and whose answer takes long."""
    asked = threading.Event()

    def answer(_: object) -> None:
        asked.set()
        time.sleep(10 * DEAD_SECONDS)

    peer.answers["/long"] = answer
    pending = Upstream(peer.url).begin("GET", "/long")
    asked.wait(10)
    loopback(up=False)
    return ended(pending.answer)


def streaming(_: Peer) -> tuple[str, float]:
    """What a server sends to a client that is gone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        sockets.notice_death(server)
        loopback(up=False)

        def stream() -> None:
            while True:
                server.sendall(b"data: 1\n\n")
                time.sleep(0.1)

        result = ended(stream)
        client.close()
        return result


def main() -> None:
    """Leave the machine's own network alone, and lose another one three times."""
    system: Any = os  # Python 3.12 and later have this
    system.unshare(system.CLONE_NEWUSER | system.CLONE_NEWNET)
    sockets.DEAD_SECONDS = DEAD_SECONDS
    sockets._PROBE_AFTER = sockets._PROBE_EVERY = 1
    found = {}
    for use in (kept_connection, waiting, streaming):
        loopback(up=True)
        with peers() as start:
            peer = start()
            peer.says("/", b"answer")
            found[use.__name__] = use(peer)
            loopback(up=True)
    print(json.dumps(found), flush=True)
    os._exit(0)  # a thread still sleeps


if __name__ == "__main__":
    main()
