"""How every HTTP program of Confide is served: one launcher, one error mapping, one size limit.

Rules of this module:

* One worker process. The programs keep their state (keys, manifest, certificates) in RAM, so one
  process has to serve it. Threads serve requests side by side. When it ends, the program ends: a
  second process would start without that state, and under the same address.
* Nothing about a request is logged. There is no access log. For an unexpected error the peer gets
  "internal" and the console its type.
* Who waits, and for how long, is front.py's. How much is taken on at once is admission.py's.

Mutual TLS next to plain HTTP (the secret service) is one more listener of the same worker. gunicorn
has one TLS setting for all its listeners. Two gunicorn masters would be two processes with two key
stores and a channel for secrets between them. A second HTTP server in a thread would be a second
request parser to trust. So front.py makes the connections of one listener TLS ones, before gunicorn
reads them. The type of the request's own socket chooses the application: no header or path can
change that.
"""

from __future__ import annotations

import errno
import json
import resource
import socket
import ssl
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, jsonify, request
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.errors import HaltServer  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]
from werkzeug.exceptions import ClientDisconnected, HTTPException

from confide.encoding.console import (
    EscapedFormatter,
    escape_the_unexpected,
    say,
    say_traceback,
)
from confide.errors import Code, ConfideError, ConfigError, FormatError
from confide.net.address import is_port
from confide.net.admission import Admission, Pulse
from confide.net.codes import SHARED
from confide.net.connection import incomplete_body
from confide.net.front import MAX_WAITING, Front
from confide.net.request_body import bounded, require_one_length
from confide.net.request_head import Lane

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_BODY = 1 << 20
"""Most bytes of a request body, unless a program has its own limit."""

THREADS = 64
"""Requests that a program works on at once, if it does not say otherwise."""

APART_THREADS = 64
"""Requests about the service itself (`Lane.APART`), and as many within TLS."""

HEALTH_THREADS = 4

RETRY_SECONDS = 5
"""When to come again after 429 or 503, if the error's code does not say."""

MAX_CONNECTIONS = 16384
"""Open connections of one program. More wait in the listen queue."""

LISTEN_QUEUE = 2048
"""Connections that wait to be accepted; gunicorn's own default."""

STREAM_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
"""What an answer that comes bit by bit says to what is in between: hold nothing back (the second
one is nginx's), and do not pack it either, which would take waiting."""

MAX_FILES = 65536
"""File descriptors that a program asks for. A stream takes two; a login shell allows 1,024."""


def status_of(error: ConfideError, codes: Mapping[str, Code]) -> int:
    """HTTP status of an error: the one its code declares, else the one of its class.

    `codes` are those of the room that serves. Codes of net and the rooms below it are known here.
    """
    code = _declared(error, codes)
    return error.status if code is None or code.status is None else code.status


def _declared(error: ConfideError, codes: Mapping[str, Code]) -> Code | None:
    return codes.get(error.code) or SHARED.get(error.code)


def flask_app(name: str, *, codes: Mapping[str, Code], max_body: int = MAX_BODY) -> Flask:
    """A Flask application whose every error is JSON: {"error": ConfideError.to_dict()}.

    `codes` are the error codes of the room that serves. Bodies over ``max_body`` bytes are refused
    (413), also chunked ones. A body that ends early or stalls is 408, which clients send again.
    """
    app = Flask(name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max_body

    app.wsgi_app = bounded(app.wsgi_app, max_body)  # type: ignore[assignment,method-assign]

    def not_refused() -> None:
        refused = getattr(request.environ.get("gunicorn.socket"), "refused", None)
        if refused is not None:
            raise refused

    def has_one_length() -> None:
        require_one_length(request.environ)

    def come_again(response: Response) -> Response:
        if response.status_code in (429, 503):
            response.headers.setdefault("Retry-After", str(RETRY_SECONDS))
        return response

    def failed(error: ConfideError) -> tuple[Response, int]:
        response = jsonify(error=error.to_dict())
        code = _declared(error, codes)
        seconds = error.retry_after or (code.retry_after if code else 0)
        if seconds:
            response.headers["Retry-After"] = str(seconds)
        return response, status_of(error, codes)

    def refused(error: HTTPException) -> tuple[Response, int]:
        if isinstance(error, ClientDisconnected):
            return failed(incomplete_body())
        status = error.code or 500
        code = "-".join(error.name.lower().split())
        expected = f"at most {request.max_content_length} bytes" if status == 413 else ""
        plain = ConfideError(code, f"The request was refused: {error.name}.", expected=expected)
        return jsonify(error=plain.to_dict()), status

    def malformed(_: ParseException) -> tuple[Response, int]:
        plain = FormatError("bad-http", "The request is not HTTP.")
        return jsonify(error=plain.to_dict()), 400

    def crashed(error: Exception) -> tuple[Response, int]:
        # Only the type: a message or a traceback could quote what a client sent.
        say(f"unexpected {type(error).__name__} in {name}")
        plain = ConfideError("internal", "The service has a defect.")
        return jsonify(error=plain.to_dict()), 500

    app.before_request(not_refused)
    app.before_request(has_one_length)
    app.after_request(come_again)
    app.register_error_handler(ConfideError, failed)
    app.register_error_handler(HTTPException, refused)
    app.register_error_handler(ParseException, malformed)
    app.register_error_handler(Exception, crashed)
    return app


def cbor_response(body: bytes) -> Response:
    """An encoded CBOR message as the answer."""
    return Response(body, content_type="application/cbor")


@dataclass(frozen=True)
class Service:
    """What a program serves: a WSGI application, and optionally another one behind mutual TLS.

    ``tls`` is that application and a function that is called for each new TLS connection, so that a
    renewed certificate is used at once. It may raise UnavailableError while there is no
    certificate: the connection is then dropped.
    """

    app: WSGIApplication
    tls: tuple[WSGIApplication, Callable[[], ssl.SSLContext]] | None = None


@dataclass(frozen=True)
class Capacity:
    """How much a program takes on at once.

    `threads` are for the requests that are not apart, and as many for those with large bodies.
    Apart are all GET, and what `apart` lists as "POST /path". `measured` programs refuse some of
    the others before, while the machine is at its limit.
    """

    threads: int = THREADS
    apart: Collection[str] = ()
    measured: bool = False

    def places(self) -> dict[Lane, tuple[int, Admission]]:
        """Threads and admission of each lane."""
        main, large = (Pulse() if self.measured else None for _ in range(2))
        return {
            # Health is never refused, and takes no time.
            Lane.HEALTH: (HEALTH_THREADS, Admission(MAX_CONNECTIONS)),
            Lane.APART: (APART_THREADS, Admission(APART_THREADS)),
            Lane.TLS: (APART_THREADS, Admission(APART_THREADS)),
            Lane.MAIN: (self.threads, Admission(self.threads, main)),
            Lane.LARGE: (self.threads, Admission(self.threads, large)),
        }


class _Logger(Logger):  # type: ignore[misc]  # gunicorn is untyped
    """Logs the kind of an error, never the request; each record is one escaped line."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(EscapedFormatter(self.error_fmt, self.datefmt))

    def exception(self, _message: str, *_args: object, **_options: object) -> None:
        kind, _, _ = sys.exc_info()
        self.error("unexpected %s while serving", kind.__name__ if kind else "failure")


class _Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn is untyped
    """gthread, whose threads and waiting connections are `Front`'s."""

    def get_thread_pool(self) -> Front:
        # The application is not loaded yet.
        app = self.app
        tls = [(sock.getsockname(), lambda: app.tls[1]()) for sock in self.sockets[1:]]
        capacity: Capacity = self.app.capacity
        return Front(
            capacity.places(),
            apart=capacity.apart,
            tls=tls[0] if tls else None,
            too_long=_plain_answer("431 Request Header Fields Too Large", "bad-http"),
        )

    def handle_error(self, _req: Any, client: socket.socket, _addr: Any, error: Exception) -> None:
        # For bytes that are no request, and for errors outside the application. gunicorn's own
        # version quotes the request in log and answer.
        if isinstance(error, ssl.SSLError):
            return
        if isinstance(error, ParseException):
            answer = _plain_answer("400 Bad Request", "bad-http")
        else:
            answer = _plain_answer("500 Internal Server Error", "internal")
            self.log.exception("")
        with suppress(OSError):
            client.sendall(answer)


def _plain_answer(status: str, code: str) -> bytes:
    """A whole answer to what no application has seen."""
    body = json.dumps({"error": ConfideError(code, f"{status[4:]}.").to_dict()}).encode()
    head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _only_once(_arbiter: Arbiter, worker: ThreadWorker) -> None:
    """Before gunicorn starts a worker process: end the program if there was one before."""
    if worker.age > 1:
        raise HaltServer("the process that serves has ended", 1)


class _Application(BaseApplication):  # type: ignore[misc]  # gunicorn is untyped
    def __init__(
        self, factory: Callable[[], Service], binds: list[str], capacity: Capacity
    ) -> None:
        self._factory = factory
        self.capacity = capacity
        self.tls: tuple[WSGIApplication, Callable[[], ssl.SSLContext]] | None = None
        self._settings = {
            "bind": binds,
            "workers": 1,
            "worker_class": _Worker,
            "pre_fork": _only_once,
            # Front makes the threads. gunicorn keeps idle connections up to what is left beside
            # this number: so those that have or wait for a thread never find it full.
            "threads": sum(threads for threads, _ in capacity.places().values()) + 2 * MAX_WAITING,
            "worker_connections": MAX_CONNECTIONS,
            # State lives in this process: never kill it for being slow, as emulation is.
            "timeout": 0,
            "graceful_timeout": 2,
            "keepalive": 75,
            "accesslog": None,
            "logger_class": _Logger,
            "loglevel": "warning",
            "forwarded_allow_ips": "",
            "control_socket_disable": True,
        }
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        escape_the_unexpected()
        try:
            service = self._factory()
        except ConfideError as error:
            say(str(error))
            # Tells the parent to give up and not to start this program again.
            raise SystemExit(Arbiter.APP_LOAD_ERROR) from error
        except Exception as error:
            say_traceback(error)
            raise SystemExit(Arbiter.APP_LOAD_ERROR) from None
        self.tls = service.tls
        if service.tls is None:
            return service.app
        app, tls_app = service.app, service.tls[0]

        def choose(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            encrypted = isinstance(environ["gunicorn.socket"], ssl.SSLSocket)
            return (tls_app if encrypted else app)(environ, start)

        return choose


def listen_on(address: str) -> socket.socket:
    """A socket that listens on "host:port", for `serve`.

    A program that a person starts calls this before it announces its address.

    Raises:
        ConfigError: This computer does not have the address, or another program uses the port.
    """
    host, _, port = address.rpartition(":")
    try:
        if not is_port(port):
            raise OSError(errno.EINVAL, "the port is not a number from 1 to 65535")
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, bound = found[0]
        with socket.socket(family, kind, protocol) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(bound)
            sock.listen(LISTEN_QUEUE)
            return sock.dup()
    except (OSError, ValueError) as error:  # ValueError: a host that cannot be a name
        reason = error.strerror if isinstance(error, OSError) else None
        raise ConfigError(
            "cannot-listen",
            "the program cannot listen on this address",
            expected="HOST:PORT, an address of this computer and a free port",
            seen=f"{address}: {reason or error}",
            next="choose another port, or stop the program that uses it",
        ) from error


def serve(
    factory: Callable[[], Service],
    *,
    listen: str | socket.socket,
    tls_listen: str | None = None,
    capacity: Capacity | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. Addresses are "host:port".

    ``listen`` may be a socket of `listen_on` if there is no ``tls_listen``. ``factory`` runs once,
    in the process that serves and after the addresses are bound: make keys, start threads, and
    announce the address there.
    """
    _allow_files()
    first = listen if isinstance(listen, str) else f"fd://{listen.detach()}"
    binds = [first] if tls_listen is None else [first, tls_listen]
    _Application(factory, binds, capacity or Capacity()).run()


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
