"""Small HTTP servers that answer what a test wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler

from confide.protocol.kem import KemPrivateKey
from confide.protocol.keyexchange import worker_id_of
from confide.protocol.secret_service import KeyOffer
from confide.protocol.workers import WorkerOffer
from tests.support.mesh import Mesh, make_mesh
from tests.support.quiet_server import quiet_server


@dataclass
class Peer:
    """One server; `answers` maps a path to a function that writes the raw response."""

    port: int = 0
    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0
    kem: KemPrivateKey = field(default_factory=KemPrivateKey.generate)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def says(
        self, path: str, body: bytes, *, status: int = 200, content_type: str = "text/plain"
    ) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Content-Type", content_type)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        self.answers[path] = answer

    def sends(self, path: str, wire: bytes, *, then_close: bool = True) -> None:
        """Answer with exactly these bytes."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(wire)
            handler.close_connection = then_close

        self.answers[path] = answer

    def is_worker(
        self, *models: str, state: str = "ready", role: str = "worker-cpu", load: int = 0
    ) -> bytes:
        """Be a worker; returns its id. It stays the same machine from call to call."""
        health = {"role": role, "state": state, "models": dict.fromkeys(models, state)}
        self.says("/healthz", json.dumps(health).encode(), content_type="application/json")
        self.says("/v1/worker", WorkerOffer(self.leaf, self.kem.public_bytes, load).encode())
        return worker_id_of(self.mesh.key.public_key())

    def is_secret_service(self) -> bytes:
        """Be a secret service; returns the SHA-256 of its KEM key."""
        self.says("/v1/key-exchange", KeyOffer(self.leaf, self.kem.public_bytes).encode())
        return self.kem.sha256

    def renews(self) -> None:
        """From now on it has another certificate and KEM key."""
        self.kem = KemPrivateKey.generate()
        self.__dict__.pop("leaf", None)

    @cached_property
    def mesh(self) -> Mesh:
        return make_mesh()

    @cached_property
    def leaf(self) -> bytes:
        """Nothing here verifies it."""
        return self.mesh.leaf()


@contextmanager
def peers() -> Iterator[Callable[[], Peer]]:
    """A function that starts one more peer. All of them end with the context."""
    with ExitStack() as stack:

        def start() -> Peer:
            peer = Peer()

            def connected() -> None:
                peer.connections += 1

            def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
                headers = dict(request.headers.items())
                peer.seen.append((request.command, request.path, headers, body))
                peer.answers[request.path](request)

            peer.port = stack.enter_context(quiet_server(answer, connected=connected))
            return peer

        yield start
