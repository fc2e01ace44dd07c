"""The coordinator's HTTP app. The transport is untrusted: every message authenticates itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flask import Flask, Response, jsonify, request

from confide.errors import UnavailableError
from confide.guest.codes import CODES
from confide.guest.coordinator.domain import Coordinator
from confide.net.server import cbor_response, flask_app
from confide.protocol import coordinator as messages
from confide.protocol.collateral import MAX_BUNDLE
from confide.protocol.roles import Role

MAX_UPLOADS = 4
"""Uploads of collateral at the same time. Each takes three times its size in memory."""

UPLOAD_SECONDS = 60.0
"""Most seconds of an upload. Otherwise a few slow ones would keep the operator's out for ever."""


def create_app(coordinator: Coordinator) -> Flask:
    """The WSGI application. Bodies are CBOR, see protocol/coordinator.py."""
    app = flask_app(__name__, codes=CODES, max_body=messages.MAX_JOIN)
    uploads = threading.BoundedSemaphore(MAX_UPLOADS)

    def body() -> bytes:
        return request.get_data(cache=False)

    @app.get("/healthz")
    def health() -> Response:
        return jsonify(role=Role.COORDINATOR, state=coordinator.state)

    @app.post("/v1/attest")
    def attest() -> Response:
        nonce = messages.Nonce.parse(body()).nonce
        return cbor_response(coordinator.attest(nonce).encode())

    @app.post("/v1/manifest")
    def set_manifest() -> Response:
        sha256 = coordinator.set_manifest(messages.SetManifest.parse(body()).manifest)
        return cbor_response(messages.ManifestSet(sha256).encode())

    @app.get("/v1/manifest")
    def manifest() -> Response:
        return cbor_response(coordinator.mesh().encode())

    @app.post("/v1/collateral")
    def add_collateral() -> Response:
        if not uploads.acquire(blocking=False):
            raise UnavailableError(
                "too-many-uploads",
                "other clients are uploading collateral",
                expected=f"at most {MAX_UPLOADS} at once",
                next="try again in a moment",
            )
        try:
            request.max_content_length = MAX_BUNDLE
            with _cut_off_after(UPLOAD_SECONDS, request.environ.get("gunicorn.socket")):
                data = body()
            reply = coordinator.add_collateral(data)
        finally:
            uploads.release()
        return cbor_response(reply.encode())

    @app.get("/v1/collateral")
    def collateral() -> Response:
        return cbor_response(coordinator.collateral())

    @app.get("/v1/refused")
    def refused() -> Response:
        return cbor_response(coordinator.refused().encode())

    @app.post("/v1/challenge")
    def challenge() -> Response:
        return cbor_response(messages.Nonce(coordinator.challenge()).encode())

    @app.post("/v1/join")
    def join() -> Response:
        return cbor_response(coordinator.join(messages.JoinRequest.parse(body())).encode())

    return app


@contextmanager
def _cut_off_after(seconds: float, peer: socket.socket | None) -> Iterator[None]:
    """End the connection to this peer if the block takes longer. Reading then fails."""

    def cut_off() -> None:
        if peer is not None:
            with suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut_off)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
