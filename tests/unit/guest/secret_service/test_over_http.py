"""Coordinator and secret service as real programs: gunicorn, HTTP, mutual TLS.

Only the machines are simulated (tests/support). What is tested is what HTTP and TLS add to the
domain: who may connect, as whom, and what a bad peer gets.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confide.client.collateral.finder import offline
from confide.client.service import fetch_record, set_manifest, verify_record
from confide.errors import ConfideError, PolicyError, UnavailableError, VerificationError
from confide.guest.coordinator.ca import create_mesh_ca, create_root_ca, issue_leaf
from confide.guest.mesh.join import Membership, Node
from confide.guest.mesh.tls import client_context, server_context
from confide.guest.secret_service.client import fetch_key
from confide.net.coordinator_client import CoordinatorClient
from confide.protocol.coordinator import Nonce
from confide.protocol.kem import KemPrivateKey
from confide.protocol.keyexchange import InferenceKey, seal_key, worker_key
from confide.protocol.manifest import Manifest
from confide.protocol.secret_service import KeyAccepted, KeyOffer
from tests.support.programs import Program, program
from tests.support.simulated_machine import (
    MODEL,
    SimulatedMachine,
    current_manifest,
    manifest_value,
)

MANIFEST = current_manifest()


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with program("coordinator", tmp_path_factory.mktemp("coordinator"), MANIFEST) as started:
        started.wait("no-manifest")
        set_manifest(started.url, MANIFEST, offline())
        yield started


@pytest.fixture(scope="module")
def secret_service(
    coordinator: Program, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("secret-service")
    with program("secret-service", folder, MANIFEST, coordinator.url) as started:
        started.wait("ready")
        yield started


@pytest.fixture(scope="module")
def worker(coordinator: Program) -> Membership:
    return join(coordinator, "worker-cpu", models=(MODEL,))


def join(coordinator: Program, role: str, **options: Any) -> Membership:
    machine = SimulatedMachine(role, manifest=MANIFEST, now=int(time.time()))
    client = CoordinatorClient(coordinator.url)
    return Node(role, machine, client, binding=machine.binding, **options).join()


def call(
    port: int, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def error_code(body: bytes) -> str:
    error = json.loads(body)["error"]
    assert set(error) == {"code", "message", "expected", "seen", "next"}
    code: str = error["code"]
    return code


def exchange(secret_service: Program) -> tuple[InferenceKey, bytes]:
    """Put a fresh inference key, as a client does: the key, and its message."""
    status, body = call(secret_service.port, "GET", "/v1/key-exchange")
    assert status == 200
    offer = KeyOffer.parse(body)
    key = InferenceKey(secrets.token_bytes(32), MODEL, int(time.time()))
    manifest_sha256 = Manifest.parse(MANIFEST).sha256
    message = seal_key(key, offer.kem_public_key, manifest_sha256=manifest_sha256)
    status, body = call(secret_service.port, "POST", "/v1/keys", message)
    assert status == 200, body
    accepted = KeyAccepted.parse(body)
    assert accepted.key_id == key.key_id
    assert 3590 <= accepted.expires_in <= 3600
    return key, message


def test_straight_line(coordinator: Program, secret_service: Program, worker: Membership) -> None:
    verdict = verify_record(
        fetch_record(coordinator.url, MANIFEST, offline()), MANIFEST, now=int(time.time())
    )
    verdict.require()
    key, _ = exchange(secret_service)
    released = fetch_key(secret_service.tls_url, worker, key.key_id)
    assert released.model == MODEL
    assert released.key == worker_key(key.key, worker=worker.worker_id, model=MODEL)
    assert 3500 < released.expires_in <= 3600


def test_key_cannot_be_replaced(secret_service: Program) -> None:
    _, message = exchange(secret_service)
    status, body = call(secret_service.port, "POST", "/v1/keys", message)
    assert (status, error_code(body)) == (409, "key-exists")


def test_key_for_another_secret_service(secret_service: Program) -> None:
    key = InferenceKey(secrets.token_bytes(32), MODEL, int(time.time()))
    public = KemPrivateKey.generate().public_bytes
    message = seal_key(key, public, manifest_sha256=Manifest.parse(MANIFEST).sha256)
    status, body = call(secret_service.port, "POST", "/v1/keys", message)
    assert (status, error_code(body)) == (410, "kem-key-gone")


def test_unknown_key(secret_service: Program, worker: Membership) -> None:
    with pytest.raises(ConfideError) as caught:
        fetch_key(secret_service.tls_url, worker, bytes(32))
    assert caught.value.code == "unknown-key"


def test_worker_without_the_keys_model(coordinator: Program, secret_service: Program) -> None:
    key, _ = exchange(secret_service)
    idle = join(coordinator, "worker-cpu", models=())
    with pytest.raises(PolicyError) as caught:
        fetch_key(secret_service.tls_url, idle, key.key_id)
    assert caught.value.code == "model-not-allowed"


def test_secret_service_posing_as_worker(coordinator: Program, secret_service: Program) -> None:
    key, _ = exchange(secret_service)
    other = join(coordinator, "secret-service")
    with pytest.raises(ConfideError) as caught:
        fetch_key(secret_service.tls_url, other, key.key_id)
    assert caught.value.code == "wrong-role"


def stranger(worker: Membership) -> Membership:
    """A worker's certificate from a mesh of somebody else's, for the same manifest."""
    now = int(time.time())
    mesh = create_mesh_ca(create_root_ca(now=now), manifest_sha256=worker.manifest.sha256, now=now)
    spki = worker.private_key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    leaf = issue_leaf(
        mesh, role="worker-cpu", models=(MODEL,), public_key=spki, kem_public_key=b"", now=now
    )
    return replace(worker, certificate=leaf)


def test_certificate_of_another_mesh(secret_service: Program, worker: Membership) -> None:
    with pytest.raises(UnavailableError):
        fetch_key(secret_service.tls_url, stranger(worker), bytes(32))


def test_no_client_certificate(secret_service: Program) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(
        "127.0.0.1", secret_service.tls_port, timeout=20, context=context
    )
    with pytest.raises(OSError):
        connection.request("GET", f"/v1/keys/{'00' * 32}")
        connection.getresponse()
    connection.close()


def test_worker_posing_as_secret_service(worker: Membership) -> None:
    """What a worker meets if its host points it at another member of the mesh."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)

    def accept() -> None:
        connection, _ = listener.accept()
        try:
            with server_context(worker).wrap_socket(connection, server_side=True) as tls:
                tls.recv(1)
        except OSError:
            pass

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        with pytest.raises(VerificationError) as caught:
            fetch_key(f"https://127.0.0.1:{listener.getsockname()[1]}", worker, bytes(32))
    finally:
        thread.join(20)
        listener.close()
    assert caught.value.code == "wrong-role"


def test_tls_face_and_public_face_are_apart(secret_service: Program, worker: Membership) -> None:
    status, body = call(secret_service.port, "GET", f"/v1/keys/{'00' * 32}")
    assert (status, error_code(body)) == (404, "not-found")
    connection = http.client.HTTPSConnection(
        "127.0.0.1", secret_service.tls_port, timeout=20, context=client_context(worker)
    )
    connection.request("GET", "/v1/key-exchange")
    assert connection.getresponse().status == 404
    connection.close()


def test_plain_http_on_the_tls_port(secret_service: Program) -> None:
    with pytest.raises((OSError, http.client.HTTPException)):
        status, _ = call(secret_service.tls_port, "GET", f"/v1/keys/{'00' * 32}")
        assert status >= 400
        raise ConnectionError
    secret_service.wait("ready")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/keys", b"\xff garbage", 400, "bad-cbor"),
        ("/v1/keys", b"", 400, "bad-cbor"),
        ("/v1/keys", b"x" * 16385, 413, "request-entity-too-large"),
        ("/v1/nothing", b"", 404, "not-found"),
        ("/v1/key-exchange", b"", 405, "method-not-allowed"),
    ],
)
def test_bad_requests(
    secret_service: Program, path: str, body: bytes, status: int, code: str
) -> None:
    seen, answer = call(secret_service.port, "POST", path, body)
    assert (seen, error_code(answer)) == (status, code)
    secret_service.wait("ready")


def test_chunked_body(coordinator: Program) -> None:
    """It is read like any other, and its bytes are judged."""
    connection = http.client.HTTPConnection("127.0.0.1", coordinator.port, timeout=20)
    try:
        connection.request(
            "POST",
            "/v1/join",
            body=(b"x" * 65536 for _ in range(2)),
            encode_chunked=True,
            headers={"Transfer-Encoding": "chunked"},
        )
        answer = connection.getresponse()
        assert (answer.status, error_code(answer.read())) == (400, "not-canonical")
    finally:
        connection.close()
    coordinator.wait("ready")


def test_second_manifest_over_http(coordinator: Program) -> None:
    other = manifest_value()["models"][0] | {"name": "other"}
    with pytest.raises(ConfideError) as caught:
        CoordinatorClient(coordinator.url).set_manifest(current_manifest(models=[other]))
    assert caught.value.code == "wrong-manifest"
    set_manifest(coordinator.url, MANIFEST, offline())


def test_short_nonce(coordinator: Program) -> None:
    status, body = call(coordinator.port, "POST", "/v1/attest", Nonce(bytes(31)).encode())
    assert (status, error_code(body)) == (400, "bad-field")


def test_client_that_goes_away(coordinator: Program) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", coordinator.port)) as sock:
            sock.sendall(b"POST /v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    coordinator.wait("ready")


MARKER = "marker-that-nobody-may-print"
BAD_HTTP = [
    f"{MARKER}\r\n\r\n",
    f"GET {MARKER} HTTP/1.1\r\n\r\n",
    f"GET / HTTP/9.{MARKER}\r\n\r\n",
    f"{MARKER} / HTTP/1.1\r\nHost: x\r\n\r\n",
    f"GET / HTTP/1.1\r\n{MARKER} : x\r\n\r\n",
    f"POST /v1/join HTTP/1.1\r\nContent-Length: {MARKER}\r\n\r\n",
    f"POST /v1/join HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {MARKER}\r\n\r\n",
    f"POST /v1/join HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{MARKER}\r\n",
    "GET / HTTP/1.1\r\n" + f"X: {MARKER}\r\n" * 200 + "\r\n",
    f"GET /{MARKER * 300} HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("data", BAD_HTTP, ids=range(len(BAD_HTTP)))
def test_bad_http(coordinator: Program, data: str) -> None:
    with socket.create_connection(("127.0.0.1", coordinator.port), timeout=20) as sock:
        sock.sendall(data.encode())
        sock.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 4")
    assert MARKER not in answer
    assert MARKER not in coordinator.log.read_text()
    coordinator.wait("ready")


def test_nothing_of_a_request_is_logged(coordinator: Program, secret_service: Program) -> None:
    for started in (coordinator, secret_service):
        call(started.port, "POST", f"/v1/{MARKER}", MARKER.encode(), Cookie=MARKER)
        assert MARKER not in started.log.read_text()


def server_certificate(secret_service: Program, worker: Membership) -> bytes:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", secret_service.tls_port, timeout=20, context=client_context(worker)
    )
    connection.connect()
    certificate: bytes | None = connection.sock.getpeercert(True)
    connection.close()
    assert certificate
    return certificate


def test_new_connections_use_the_newest_certificate(
    coordinator: Program, worker: Membership, tmp_path: Path
) -> None:
    with program("secret-service", tmp_path, MANIFEST, coordinator.url, "renewing") as started:
        started.wait("ready")
        first = server_certificate(started, worker)
        deadline = time.monotonic() + 20
        while server_certificate(started, worker) == first:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_program_ends_with_its_certificate(coordinator: Program, tmp_path: Path) -> None:
    """The whole program, not one of its processes: gunicorn would start another one."""
    with program("secret-service", tmp_path, MANIFEST, coordinator.url, "expiring") as started:
        assert started.process.wait(30) == 1
        lines = started.log.read_text()
    assert "confide: this machine ends: its certificate has ended" in lines
    assert lines.count("confide: joined the mesh as secret-service") == 1


def test_program_ends_with_the_process_that_serves(coordinator: Program, tmp_path: Path) -> None:
    """A process that is killed leaves no successor, which would have other keys and a mesh anew."""
    with program("secret-service", tmp_path, MANIFEST, coordinator.url) as started:
        started.wait("ready")
        children = Path(f"/proc/{started.process.pid}/task/{started.process.pid}/children")
        (child,) = children.read_text().split()
        os.kill(int(child), signal.SIGKILL)
        assert started.process.wait(30) == 1
        assert started.log.read_text().count("joined the mesh") == 1


def test_program_that_is_asked_to_stop_ends_without_an_error(
    coordinator: Program, tmp_path: Path
) -> None:
    with program("secret-service", tmp_path, MANIFEST, coordinator.url) as started:
        started.wait("ready")
        started.process.terminate()
        assert started.process.wait(30) == 0


def test_stalled_peers_do_not_hold_the_service(coordinator: Program) -> None:
    """More half-sent requests than there are threads: they are cut off, others are answered."""
    stalled = []
    try:
        for _ in range(100):
            sock = socket.create_connection(("127.0.0.1", coordinator.port))
            sock.sendall(b"POST /v1/attest HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
            stalled.append(sock)
        start = time.monotonic()
        deadline = start + 60
        while True:
            try:
                assert coordinator.health()["state"] == "ready"
                break
            except OSError:
                assert time.monotonic() < deadline
    finally:
        for sock in stalled:
            sock.close()
