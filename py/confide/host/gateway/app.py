"""The gateway's HTTP application: it reads headers only, and relays answers as they come."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

from flask import Flask, Response, jsonify, request

from confide.encoding.texts import check_name
from confide.errors import UnavailableError
from confide.host.codes import CODES
from confide.host.gateway.access import Doorkeeper, Everybody, Use
from confide.host.gateway.routing import Workers
from confide.host.gateway.secret_services import SecretServices
from confide.net.disconnect import DisconnectWatcher
from confide.net.http_client import Upstream, UpstreamAnswer
from confide.net.refusals import seconds_to_wait
from confide.net.server import STREAM_HEADERS, cbor_response, flask_app
from confide.protocol.collateral import MAX_BUNDLE
from confide.protocol.coordinator import MAX_ATTESTATION
from confide.protocol.routes.table import MODELS, SEALED
from confide.protocol.sealed import MAX_REQUEST, RequestHeaders
from confide.protocol.workers import LIST_HEADER, WRONG_WORKER

APART = ("POST /confide/v1/attest", "POST /confide/v1/keys")
"""Requests that never wait behind answers."""

_FORWARDED = (
    "Content-Type",
    "Confide-Version",
    "Confide-Manifest",
    "Confide-Model",
    "Confide-Key-Id",
    "Confide-Worker",
)

_USES = {
    "attest": Use.ATTESTATION,
    "collateral": Use.ATTESTATION,
    "models": Use.LISTS,
    "listed": Use.LISTS,
    "key_exchange": Use.OFFERS,
    "keys": Use.KEYS,
}
"""What each endpoint counts as. All others are requests."""


def create_app(
    *,
    coordinator: Upstream,
    secret_services: SecretServices,
    workers: Workers,
    access: Doorkeeper | None,
    clock_skew: Callable[[], Mapping[str, int]] = dict,
) -> Flask:
    """The WSGI application; `access` None admits everybody. Starts a thread: fork before.

    `clock_skew` is `Clocks.skew`.
    """
    app = flask_app(__name__, codes=CODES, max_body=MAX_REQUEST)
    watcher = DisconnectWatcher()

    doorkeeper = access or Everybody()

    @app.before_request
    def admit() -> None:
        if request.endpoint != "health":
            doorkeeper.admit(
                _USES.get(request.endpoint or "", Use.REQUESTS),
                authorization=request.headers.get("Authorization", ""),
                address=request.remote_addr or "",
            )

    @app.get("/healthz")
    def health() -> Response:
        return jsonify(
            role="gateway", state="ready", models=workers.models(), clock_skew=clock_skew()
        )

    @app.get(MODELS.path)
    def models() -> Response:
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "confide"}
            for name in workers.models()
        ]
        return jsonify(object="list", data=data)

    def relay(upstream: Upstream, path: str, limit: int = MAX_ATTESTATION) -> Response:
        body = request.get_data(cache=False) if request.method == "POST" else None
        with (
            watcher.watch(request.environ.get("gunicorn.socket")) as watch,
            upstream.open(
                request.method,
                path,
                body=body,
                headers={"Content-Type": request.headers.get("Content-Type", "")},
                watch=watch,
            ) as answer,
        ):
            relayed = Response(answer.read(limit), answer.status, _passed_on(answer))
        relayed.content_type = answer.content_type
        return relayed

    @app.post("/confide/v1/attest")
    def attest() -> Response:
        return relay(coordinator, "/v1/attest")

    @app.get("/confide/v1/collateral")
    def collateral() -> Response:
        return relay(coordinator, "/v1/collateral", MAX_BUNDLE)

    @app.get("/confide/v1/key-exchange")
    def key_exchange() -> Response:
        return cbor_response(secret_services.reply().encode())

    @app.post("/confide/v1/keys")
    def keys() -> Response:
        service = secret_services.for_key(request.get_data())
        return relay(service.upstream, "/v1/keys")

    @app.get("/confide/v1/workers")
    def listed() -> Response:
        wanted = [check_name(name, "the model") for name in request.args.getlist("model")]
        return cbor_response(workers.list_for(wanted)[0])

    def wrong_worker(model: str) -> Response:
        response = cbor_response(workers.list_for([model])[0])
        response.status_code = WRONG_WORKER
        return response

    def sealed() -> Response:
        # All of this before the body: the client stops sending it.
        headers = {name: request.headers.get(name, "") for name in _FORWARDED}
        asked = RequestHeaders.parse(headers)
        model = asked.model
        worker = workers.find(asked.worker, model)
        if worker is None:
            return wrong_worker(model)
        body = request.get_data(cache=False)
        with ExitStack() as stack:
            watch = stack.enter_context(watcher.watch(request.environ.get("gunicorn.socket")))
            try:
                answer = worker.upstream.open(
                    "POST", request.path, body=body, headers=headers, watch=watch
                )
            except UnavailableError as error:
                # Only of a request that was never sent this gateway knows that it did not run.
                if error.code != "peer-unreachable":
                    raise
                workers.lost(worker)
                return wrong_worker(model)
            stack.callback(answer.close)
            response = Response(_pieces(answer), answer.status, _passed_on(answer))
            response.content_type = answer.content_type
            response.headers[LIST_HEADER] = workers.list_for([model])[1]
            if answer.length is None:
                response.headers.update(STREAM_HEADERS)
            else:
                response.content_length = answer.length
            # From here on, the end of the response also ends the watch and the call.
            response.call_on_close(stack.pop_all().close)
            return response

    for route in SEALED.values():
        app.add_url_rule(route.path, endpoint=route.path, view_func=sealed, methods=[route.method])
    return app


def _passed_on(answer: UpstreamAnswer) -> dict[str, str]:
    """The headers that a peer's answer keeps, beside its type."""
    seconds = seconds_to_wait(answer.header("Retry-After"))
    return {"Retry-After": str(seconds)} if seconds else {}


def _pieces(answer: UpstreamAnswer) -> Iterator[bytes]:
    try:
        yield from answer.pieces()
    except UnavailableError as error:
        # The head was sent already: a body that breaks off tells the client.
        raise ConnectionResetError(errno.ECONNRESET, error.code) from error
