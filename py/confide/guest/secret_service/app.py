"""The secret service's two HTTP apps: one for clients, one for workers behind mutual TLS."""

from __future__ import annotations

from flask import Flask, Response, jsonify, request

from confide.encoding.texts import from_hex
from confide.guest.codes import CODES
from confide.guest.mesh.join import Node
from confide.guest.mesh.tls import peer_identity
from confide.guest.secret_service.domain import SecretService
from confide.net.address import source_of
from confide.net.server import cbor_response, flask_app
from confide.protocol.keyexchange import KEY_ID_SIZE, MAX_MESSAGE
from confide.protocol.roles import WORKERS
from confide.protocol.secret_service import KeyOffer


def create_public_app(service: SecretService, node: Node) -> Flask:
    """The app for clients. The transport is untrusted: every message authenticates itself."""
    app = flask_app(__name__, codes=CODES, max_body=MAX_MESSAGE)

    @app.get("/healthz")
    def health() -> Response:
        return jsonify(role=node.role, state=node.state, reason=node.reason)

    @app.get("/v1/key-exchange")
    def key_exchange() -> Response:
        member = node.membership()
        return cbor_response(KeyOffer(member.certificate, member.kem_public_key).encode())

    @app.post("/v1/keys")
    def put_key() -> Response:
        accepted = service.put(
            request.get_data(cache=False),
            node.membership().manifest,
            source=source_of(request.remote_addr or ""),
        )
        return cbor_response(accepted.encode())

    return app


def create_worker_app(service: SecretService, node: Node) -> Flask:
    """The app for workers. It is served over TLS only, which authenticates the peer."""
    app = flask_app(f"{__name__}.workers", codes=CODES, max_body=0)

    @app.get("/v1/keys/<key_id>")
    def get_key(key_id: str) -> Response:
        connection = request.environ["gunicorn.socket"]
        worker = peer_identity(connection, node.membership(), role=WORKERS)
        released = service.get(from_hex(key_id, KEY_ID_SIZE, "the key id"), worker)
        return cbor_response(released.encode())

    return app
