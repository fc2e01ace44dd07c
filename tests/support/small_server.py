"""A program that `net.server` serves, with short times: what it does with its clients is tested.

    python -m tests.support.small_server PORT TLS_PORT THREADS SECONDS IDENTITY

SECONDS are for a head and for a body. It has few places, so that a test can fill them. IDENTITY is
a file with certificate and key of its listener for TLS.
"""

from __future__ import annotations

import ssl
import sys
import threading
import time
from collections.abc import Iterator

from flask import Flask, Response, jsonify, request

from confide.net import front, request_body
from confide.net.server import Capacity, Service, flask_app, serve

MAX_BODY = 4 << 20
BODIES = 6 << 20
"""Bytes of large bodies at once: one of `MAX_BODY`, and not two."""
MAX_WAITING = 100


def application() -> Flask:
    app = flask_app(__name__, codes={}, max_body=MAX_BODY)

    @app.get("/healthz")
    def health() -> Response:
        return jsonify(threads=threading.active_count())

    @app.get("/list")
    def listed() -> str:
        return "a list"

    @app.post("/length")
    def length() -> Response:
        return jsonify(length=len(request.get_data(cache=False)))

    @app.post("/unread")
    def unread() -> tuple[str, int]:
        return "not wanted", 403

    @app.post("/hold")
    def hold() -> Response:
        time.sleep(float(request.get_data()))
        return jsonify(held=True)

    @app.post("/stream")
    def stream() -> Response:
        count = int(request.get_data())

        def events() -> Iterator[bytes]:
            for _ in range(count):
                yield b"event\n"
                time.sleep(0.1)

        return Response(events())

    return app


def main() -> None:
    ports, threads, seconds, identity = sys.argv[1:3], *sys.argv[3:]
    front.HEAD_SECONDS = front.BODY_SECONDS = float(seconds)
    front.MAX_WAITING = MAX_WAITING
    request_body.MAX_BODIES = BODIES
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity)
    listen, tls_listen = (f"127.0.0.1:{port}" for port in ports)
    serve(
        lambda: Service(application(), tls=(application(), lambda: context)),
        listen=listen,
        tls_listen=tls_listen,
        capacity=Capacity(int(threads), apart=("POST /hold",)),
    )


if __name__ == "__main__":
    main()
