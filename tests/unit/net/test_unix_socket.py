"""HTTP over a Unix socket, and who listens on it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from confide.errors import UnavailableError
from confide.net.http_client import Upstream
from confide.net.unix_socket import UnixConnection

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: a/b\r\n\r\nhi"
ME = os.getuid()


@contextmanager
def server(path: Path, backlog: int = 5) -> Iterator[list[bytes]]:
    """Answers each connection once. Gives what was received, a piece for each."""
    received: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(backlog)

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    received.append(connection.recv(1000))
                    if received[-1]:
                        connection.sendall(ANSWER)

        threading.Thread(target=answer, daemon=True).start()
        yield received
        listener.shutdown(socket.SHUT_RDWR)


def upstream(path: Path, user: int = ME) -> Upstream:
    return Upstream("http://engine-1", connection=partial(UnixConnection, path, user))


def test_a_call(tmp_path: Path) -> None:
    with server(tmp_path / "s"):
        assert upstream(tmp_path / "s").call("POST", "/", body=b"x") == (200, "a/b", b"hi")


def test_another_user_gets_nothing(tmp_path: Path) -> None:
    with server(tmp_path / "s") as received:
        with pytest.raises(UnavailableError, match="cannot be reached") as caught:
            upstream(tmp_path / "s", ME + 1).call("POST", "/", body=b"the patient has")
        assert upstream(tmp_path / "s").call("GET", "/")[0] == 200
    assert caught.value.seen == "PermissionError"
    assert received[0] == b""


def test_a_link_to_another_user_s_socket(tmp_path: Path) -> None:
    """The kernel says who listens at its end, whatever the path is."""
    (tmp_path / "link").symlink_to(tmp_path / "s")
    with server(tmp_path / "s") as received:
        with pytest.raises(UnavailableError):
            upstream(tmp_path / "link", ME + 1).call("POST", "/", body=b"the patient has")
        assert upstream(tmp_path / "link").call("GET", "/")[0] == 200
    assert b"patient" not in b"".join(received)


@pytest.mark.parametrize("kind", ["none", "file", "pipe", "folder", "loop", "datagram"])
def test_what_is_no_server(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        if kind == "file":
            path.touch()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "loop":
            path.symlink_to(path)
        elif kind == "datagram":
            datagram.bind(str(path))
        with pytest.raises(UnavailableError) as caught:
            upstream(path).call("GET", "/")
    assert caught.value.code == "peer-unreachable"


def test_a_server_that_takes_no_connections_does_not_hold_the_caller(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        held = socket.socket(socket.AF_UNIX)
        held.connect(str(tmp_path / "s"))
        with held, pytest.raises(UnavailableError) as caught:
            upstream(tmp_path / "s").call("GET", "/")
    assert caught.value.code == "peer-unreachable"
