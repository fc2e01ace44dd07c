"""The proxy's OpenAI API on loopback.

Everybody who reaches this port gets answers, unless the proxy has a key. So it binds loopback only,
and refuses what a web page could make a browser send: a Host that is not loopback (DNS rebinding),
and an Origin that is not the proxy's own address. It never sends a CORS header.
"""

from __future__ import annotations

from contextlib import ExitStack
from urllib.parse import urlsplit

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import ClientDisconnected, HTTPException

from confide.client.codes import CODES, PROXY_STATUS
from confide.client.proxy.answer import ReportedError
from confide.client.proxy.completions import MAX_BODY, PATHS, Completions, GatewayRefusal
from confide.client.proxy.local_key import require_local_key
from confide.client.proxy.loopback import is_loopback
from confide.client.proxy.session import Session
from confide.errors import (
    ConfideError,
    FormatError,
    PolicyError,
    UnavailableError,
    VerificationError,
)
from confide.net import openai_error
from confide.net.connection import incomplete_body
from confide.net.disconnect import DisconnectWatcher
from confide.net.server import STREAM_HEADERS, flask_app
from confide.protocol.manifest import Manifest
from confide.protocol.opt_outs import unchecked


def create_app(
    completions: Completions,
    session: Session,
    manifest: Manifest,
    *,
    is_foreign: bool = False,
    local_key: str = "",
) -> Flask:
    """The WSGI application of a proxy that pins this manifest.

    `is_foreign`: something of the manifest is not of this client's release. Apps have to send
    `local_key`, unless it is "".
    """
    opt_outs = unchecked(manifest.opt_outs, is_foreign=is_foreign)
    app = flask_app(__name__, codes=CODES, max_body=MAX_BODY)
    watcher = DisconnectWatcher()

    app.register_error_handler(ConfideError, _failed)
    app.register_error_handler(HTTPException, _refused)
    app.before_request(_local_only)

    @app.before_request
    def local_key_only() -> None:
        # Health says nothing that is secret, and those who watch the proxy have no key.
        if request.endpoint != "health":
            headers = request.headers
            authorization, api_key = headers.get("Authorization", ""), headers.get("x-api-key")
            require_local_key(authorization, api_key, local_key)

    @app.after_request
    def mark(response: Response) -> Response:
        response.headers["x-confide-mode"] = manifest.mode
        # A browser must not take an answer for a page, whatever a model wrote.
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.get("/healthz")
    def health() -> tuple[Response, int]:
        left = session.seconds_left()
        state = "ready" if left else "not-verified"
        answer = jsonify(
            role="proxy",
            state=state,
            mode=manifest.mode,
            verified_for_seconds=int(left),
            manifest_expires=manifest.expires,
            opt_outs=opt_outs,
        )
        return answer, 200 if left else 503

    @app.get("/v1/models")
    def models() -> Response:
        data = [
            {"id": model.name, "object": "model", "created": 0, "owned_by": "confide"}
            for model in session.current().manifest.models
        ]
        return jsonify(object="list", data=data)

    def complete() -> Response:
        body = request.get_data(cache=False)
        with ExitStack() as stack:
            watch = stack.enter_context(watcher.watch(request.environ.get("gunicorn.socket")))
            reply = completions.complete(request.path, body, watch, stack)
            response = Response(reply.body, reply.status, content_type=reply.content_type)
            if not isinstance(reply.body, bytes):
                response.headers.update(STREAM_HEADERS)
                # From here on, the end of the response also ends the watch and the call.
                response.call_on_close(stack.pop_all().close)
            return response

    for path in PATHS:
        app.add_url_rule(path, endpoint=path, view_func=complete, methods=["POST"])
    return app


def _local_only() -> None:
    try:
        host = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
    except ValueError:
        host = ""
    if not is_loopback(host):
        raise PolicyError(
            "foreign-host",
            "the request is for another host",
            expected="a loopback Host: 127.0.0.1, localhost or [::1]",
            seen=ascii(host)[:80],
        )
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"http://{request.headers['Host']}":
        raise PolicyError(
            "foreign-origin",
            "the proxy does not serve web pages of other sites",
            expected="no Origin header, or the proxy's own address",
            seen=ascii(origin)[:80],
        )


def _failed(error: ConfideError) -> Response:
    status = status_for_app(error)
    response: Response = jsonify(error=openai_error.from_error(error, status))
    response.status_code = status
    if error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, VerificationError) and status == 502:
        # A client library that silently retries would hide that somebody altered an answer.
        response.headers["x-should-retry"] = "false"
    return response


def status_for_app(error: ConfideError) -> int:
    """HTTP status with which the proxy answers an app."""
    if error.code in PROXY_STATUS:
        return PROXY_STATUS[error.code]
    if isinstance(error, GatewayRefusal):
        return error.status
    if isinstance(error, (VerificationError, UnavailableError, ReportedError)):
        return 502
    return 400 if isinstance(error, (FormatError, PolicyError)) else 500


def _refused(error: HTTPException) -> Response:
    if error.code == 413:
        too_large = FormatError(
            "body-too-large",
            "the request's body is too large",
            expected=f"at most {MAX_BODY} bytes",
        )
        return _failed(too_large)
    if isinstance(error, ClientDisconnected):
        return _failed(incomplete_body())
    if error.code in (404, 405):
        return _failed(
            PolicyError(
                "not-implemented",
                "the proxy does not have this endpoint",
                expected="GET /v1/models, GET /healthz, POST " + ", POST ".join(PATHS),
                seen=ascii(f"{request.method} {request.path}")[:120],
            )
        )
    return _failed(FormatError("bad-request", f"the request was refused: {error.name}"))
