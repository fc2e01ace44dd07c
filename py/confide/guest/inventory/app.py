"""The HTTP app of an inventory boot: a nonce comes in, evidence goes out.

The evidence binds the nonce under a label of its own (`inventory_report_data`), so it passes for no
coordinator and for no join. It has no GPUs: a site lists processors, and a GPU is verified when its
machine joins a mesh.
"""

from __future__ import annotations

import threading

from flask import Flask, Response, jsonify, request

from confide.guest.attest.service import Attester
from confide.guest.codes import CODES
from confide.net.server import cbor_response, flask_app
from confide.protocol.binding import inventory_report_data
from confide.protocol.coordinator import Nonce

STATE = "inventory"
MAX_BODY = 256
"""Bytes of a request. A nonce takes 41."""


def create_app(attester: Attester) -> Flask:
    """The WSGI application: `GET /healthz`, and `POST /v1/attest` from a `Nonce` to `Evidence`."""
    app = flask_app(__name__, codes=CODES, max_body=MAX_BODY)
    # One quote at a time: a TPM is one slow device, and requests better wait here than there.
    quote_lock = threading.Lock()

    @app.get("/healthz")
    def health() -> Response:
        return jsonify(state=STATE)

    @app.post("/v1/attest")
    def attest() -> Response:
        nonce = Nonce.parse(request.get_data(cache=False)).nonce
        with quote_lock:
            evidence = attester.evidence(inventory_report_data(nonce))
        return cbor_response(evidence.encode())

    return app
