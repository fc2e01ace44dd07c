"""A small program on the real server, for tests of how requests arrive and answers leave."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, Response, jsonify, request

from confide.net import front
from confide.net.server import Service, flask_app, serve
from tests.support.programs import ROOT, free_port

MAX_BODY = 200_000
BODY_SECONDS = 2
TCP_OPTIONS = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")


def tcp_options(sock: socket.socket) -> dict[str, int]:
    """What a socket has of the options that end it when its other end is gone."""
    found = {"SO_KEEPALIVE": sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)}
    for name in TCP_OPTIONS:
        found[name] = sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
    return found


def app() -> Flask:
    flask = flask_app("echo", codes={}, max_body=MAX_BODY)

    @flask.post("/")
    def size() -> str:
        body = request.get_data()
        return f"{len(body)} bytes, sum {sum(body)}"

    @flask.get("/options")
    def options() -> Response:
        return jsonify(tcp_options(request.environ["gunicorn.socket"]))

    @flask.post("/refuse")
    def refuse() -> tuple[str, int]:
        """Says no, and looks at no body."""
        return "too many", 429

    return flask


@contextmanager
def echo_server() -> Iterator[int]:
    """Run it; gives its port on 127.0.0.1."""
    port = free_port()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "py"), str(ROOT)))}
    command = [sys.executable, "-m", "tests.support.echo_server", str(port)]
    process = subprocess.Popen(command, env=environment)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    front.BODY_SECONDS = BODY_SECONDS
    serve(lambda: Service(app()), listen=f"127.0.0.1:{sys.argv[1]}")
