"""The gateway's HTTP application: it reads headers only, and relays answers as they come."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

from flask import Flask, Response, jsonify, request

from confide.errors import UnavailableError
from confide.host.codes import CODES
from confide.host.gateway.access import Access
from confide.host.gateway.routing import Worker, Workers
from confide.net.disconnect import DisconnectWatch, DisconnectWatcher
from confide.net.http_client import Upstream, UpstreamAnswer
from confide.net.server import flask_app
from confide.protocol.collateral import MAX_BUNDLE
from confide.protocol.coordinator import MAX_ATTESTATION
from confide.protocol.sealed import MAX_REQUEST

_FORWARDED = ("Content-Type", "Confide-Version", "Confide-Model", "Confide-Key-Id")


def create_app(
    *,
    coordinator: Upstream,
    secret_service: Upstream,
    workers: Workers,
    access: Access | None,
    clock_skew: Callable[[], Mapping[str, int]] = dict,
) -> Flask:
    """The WSGI application; `access` None admits everybody. Starts a thread: fork before.

    `clock_skew` is `Clocks.skew`.
    """
    app = flask_app(__name__, codes=CODES, max_body=MAX_REQUEST)
    watcher = DisconnectWatcher()

    @app.before_request
    def admit() -> None:
        if access is not None and request.endpoint != "health":
            access.admit(request.headers.get("Authorization", ""))

    @app.get("/healthz")
    def health() -> Response:
        return jsonify(
            role="gateway", state="ready", models=workers.models(), clock_skew=clock_skew()
        )

    @app.get("/v1/models")
    def models() -> Response:
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "confide"}
            for name in workers.models()
        ]
        return jsonify(object="list", data=data)

    def relay(upstream: Upstream, path: str, limit: int = MAX_ATTESTATION) -> Response:
        body = request.get_data(cache=False) if request.method == "POST" else None
        with watcher.watch(request.environ.get("gunicorn.socket")) as watch:
            status, content_type, answer = upstream.call(
                request.method,
                path,
                body=body,
                headers={"Content-Type": request.headers.get("Content-Type", "")},
                watch=watch,
                limit=limit,
            )
        return Response(answer, status, content_type=content_type)

    @app.post("/confide/v1/attest")
    def attest() -> Response:
        return relay(coordinator, "/v1/attest")

    @app.get("/confide/v1/collateral")
    def collateral() -> Response:
        return relay(coordinator, "/v1/collateral", MAX_BUNDLE)

    @app.get("/confide/v1/key-exchange")
    def key_exchange() -> Response:
        return relay(secret_service, "/v1/key-exchange")

    @app.post("/confide/v1/keys")
    def keys() -> Response:
        return relay(secret_service, "/v1/keys")

    @app.post("/v1/chat/completions")
    @app.post("/v1/completions")
    def sealed() -> Response:
        model = request.headers.get("Confide-Model", "")
        shard_key = request.headers.get("Confide-Shard-Key", "")
        candidates = workers.candidates(model, shard_key)
        body = request.get_data(cache=False)
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        with ExitStack() as stack:
            watch = stack.enter_context(watcher.watch(request.environ.get("gunicorn.socket")))
            answer = ask(candidates, stack, body, headers, watch)
            response = Response(_pieces(answer), answer.status, content_type=answer.content_type)
            if answer.length is not None:
                response.content_length = answer.length
            # From here on, the end of the response also ends the watch and the call.
            response.call_on_close(stack.pop_all().close)
            return response

    def ask(
        candidates: Sequence[Worker],
        stack: ExitStack,
        body: bytes,
        headers: Mapping[str, str],
        watch: DisconnectWatch,
    ) -> UpstreamAnswer:
        last: UnavailableError | None = None
        for worker in candidates:
            with ExitStack() as attempt:
                attempt.enter_context(workers.busy(worker))
                try:
                    answer = worker.upstream.open(
                        "POST", request.path, body=body, headers=headers, watch=watch
                    )
                except UnavailableError as error:
                    # Only a request that was never sent may go to another worker.
                    if error.code != "peer-unreachable":
                        raise
                    worker.models = frozenset()
                    last = error
                    continue
                attempt.callback(answer.close)
                stack.push(attempt.pop_all())
                return answer
        assert last is not None
        raise last

    return app


def _pieces(answer: UpstreamAnswer) -> Iterator[bytes]:
    try:
        yield from answer.pieces()
    except UnavailableError as error:
        # The head was sent already: a body that breaks off tells the client.
        raise ConnectionResetError(errno.ECONNRESET, error.code) from error
