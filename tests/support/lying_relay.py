"""A man in the middle on HTTP: it carries a node's questions, and may alter the answers."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

from confide.net.coordinator_client import CoordinatorClient
from confide.protocol.coordinator import Attestation, MeshReply

Alter = Callable[[str, bytes], bytes]
"""From the path of a question and its answer to the answer that the node gets."""


def honest(_: str, answer: bytes) -> bytes:
    return answer


def with_cas_of(url: str) -> Alter:
    """The CAs of the coordinator at `url`, beside the genuine coordinator's own evidence."""
    own = CoordinatorClient(url).mesh()

    def alter(path: str, answer: bytes) -> bytes:
        told: Attestation | MeshReply
        if path == "/v1/attest":
            told = Attestation.parse(answer)
        elif path == "/v1/manifest":
            told = MeshReply.parse(answer)
        else:
            return answer
        return replace(told, mesh_ca=own.mesh_ca, root_ca=own.root_ca).encode()

    return alter


def with_manifest(manifest: bytes) -> Alter:
    """A manifest in place of the coordinator's own, beside its evidence."""

    def alter(path: str, answer: bytes) -> bytes:
        if path == "/v1/attest":
            return replace(Attestation.parse(answer), manifest=manifest).encode()
        if path == "/v1/manifest":
            return replace(MeshReply.parse(answer), manifest=manifest).encode()
        return answer

    return alter


def ask(url: str, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    """Status and answer of a server; (502, b"") if there is no answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
    try:
        connection.request(method, path, body=body)
        response = connection.getresponse()
        return response.status, response.read()
    except OSError:
        return 502, b""
    finally:
        connection.close()


class LyingRelay:
    """Context manager: listens on a free port of 127.0.0.1. `target` and `alter` may change."""

    def __init__(self, target: str, alter: Alter = honest) -> None:
        self.target, self.alter = target, alter
        self.asked: list[str] = []
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def _carry(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                relay.asked.append(self.path)
                status, answer = relay.carry(self.command, self.path, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = _carry

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def carry(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Ask the target; its answer as the node gets it. Errors are not altered."""
        status, answer = ask(self.target, method, path, body)
        return status, self.alter(path, answer) if status == 200 else answer

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
