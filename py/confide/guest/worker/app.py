"""The worker's HTTP app: health, what clients need to choose it, and the paths for requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

from flask import Flask, Response, jsonify, request

from confide.errors import UnavailableError
from confide.guest.codes import CODES
from confide.guest.mesh.join import Membership
from confide.guest.worker.encryption_proxy import EncryptionProxy, SealedCall
from confide.net.disconnect import DisconnectWatcher
from confide.net.server import cbor_response, flask_app
from confide.protocol.frames import RESPONSE_TYPE
from confide.protocol.sealed import MAX_REQUEST, PATHS
from confide.protocol.workers import WorkerOffer, rounded_load

READY = "ready"
_HEADERS = (
    "Content-Type",
    "Confide-Version",
    "Confide-Manifest",
    "Confide-Model",
    "Confide-Key-Id",
    "Confide-Worker",
)


class _InFlight:
    """Counts the requests that this worker works on. Thread-safe."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[None]:
        with self._lock:
            self.count += 1
        try:
            yield
        finally:
            with self._lock:
                self.count -= 1


def create_app(
    proxy: EncryptionProxy,
    *,
    role: str,
    membership: Callable[[], Membership],
    states: Callable[[], Mapping[str, str]],
) -> Flask:
    """The WSGI application. `states` gives each model's state, "ready" if it answers requests.

    `membership` raises UnavailableError while this machine has no valid certificate.

    Health is that map, for the gateway, and one state of the worker, for the runner: "ready" when
    every model is, otherwise the state of the first model that is not. While no model is ready, the
    status of every answer is 503.
    """
    app = flask_app(__name__, codes=CODES, max_body=MAX_REQUEST)
    watcher = DisconnectWatcher()
    in_flight = _InFlight()

    @app.get("/healthz")
    def health() -> tuple[Response, int]:
        models = states()
        state = next((state for state in models.values() if state != READY), READY)
        status = 200 if READY in models.values() else 503
        return jsonify(role=role, state=state, models=dict(models)), status

    @app.get("/v1/worker")
    def offer() -> Response:
        member = membership()
        load = rounded_load(in_flight.count)
        return cbor_response(WorkerOffer(member.certificate, member.kem_public_key, load).encode())

    def sealed() -> Response:
        models = states()
        if READY not in models.values():
            raise UnavailableError(
                "engine-not-ready",
                "this worker serves no model yet",
                seen=", ".join(f"{model}: {state}" for model, state in models.items()),
                next="try again later",
            )
        headers = {name: request.headers.get(name, "") for name in _HEADERS}
        read_body = partial(request.get_data, cache=False)
        call = SealedCall(request.method, request.path, headers, read_body)
        with ExitStack() as stack:
            stack.enter_context(in_flight.one())
            watch = stack.enter_context(watcher.watch(request.environ.get("gunicorn.socket")))
            body = proxy.respond(call, watch)
            response = Response(body, content_type=RESPONSE_TYPE)
            if isinstance(body, bytes):
                return response
            # From here on, the end of the response also ends the watch and the call.
            response.call_on_close(stack.pop_all().close)
            return response

    for path in PATHS:
        app.add_url_rule(path, endpoint=path, view_func=sealed, methods=["POST"])
    return app
