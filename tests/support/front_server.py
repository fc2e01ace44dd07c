"""A small server with gunicorn in a process of its own, and what tests say to it over sockets."""

from __future__ import annotations

import datetime
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.support.programs import ROOT, free_port

THREADS = 4
SECONDS = 6.0
"""For a head, and for a body."""
SOON = 4.0
"""Seconds in which an honest request is answered, on a busy machine."""


class Server:
    def __init__(self, port: int, tls_port: int) -> None:
        self.port = port
        self.tls_port = tls_port

    def connect(self, sent: bytes = b"") -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        sock.sendall(sent)
        return sock

    def call(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes, float]:
        """Status, body and seconds."""
        start = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body=body)
            answer = connection.getresponse()
            return answer.status, answer.read(), time.monotonic() - start
        finally:
            connection.close()

    def threads(self) -> int:
        count: int = json.loads(self.call("GET", "/healthz")[1])["threads"]
        return count

    def wait_for_places(self) -> None:
        """An answer has arrived a little before its place is free."""
        deadline = time.monotonic() + SOON
        while self.call("POST", "/length", b"1")[0] == 503:
            assert time.monotonic() < deadline
        time.sleep(0.2)

    def require_answers(self) -> None:
        """Each kind of request is answered, and soon."""
        self.wait_for_places()
        for method, path, body in (
            ("GET", "/healthz", None),
            ("GET", "/list", None),
            ("POST", "/hold", b"0"),
            ("POST", "/length", b"1234"),
        ):
            status, answer, seconds = self.call(method, path, body)
            assert status == 200, (path, answer)
            assert seconds < SOON, path


def make_identity(identity: Path) -> None:
    """A certificate that signs itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(1))
    certificate = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    identity.write_bytes(certificate + secret)


@contextmanager
def running(identity: Path) -> Iterator[Server]:
    port, tls_port = free_port(), free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.support.small_server"),
            *(str(port), str(tls_port), str(THREADS), str(SECONDS), str(identity)),
        ],
        env={"PYTHONPATH": f"{ROOT / 'py'}:{ROOT}"},
    )
    server = Server(port, tls_port)
    try:
        for _ in range(600):
            try:
                server.call("GET", "/healthz")
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait()


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while end not in data:
        piece = sock.recv(65536)
        assert piece
        data += piece
    return data
