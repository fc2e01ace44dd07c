"""A program in Go reads, verifies and uses the mesh's certificates with its standard library.

`make test-go` builds it with Debian's compiler; `make test` leaves this folder out.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from confide.guest.mesh.tls import client_context, peer_identity, server_context
from confide.protocol.certificates import MeshIdentity
from tests.support.foreign import CERTIFICATES, CHAINS, LiveMesh, live_mesh, write_vectors

SERVICE, WORKER = CHAINS["secret_service"], CHAINS["worker"]
NOW = CERTIFICATES["valid_at"]
# Where protocol 1 had the hash of the manifest.
LONG_ARC = x509.ObjectIdentifier("2.25.305186723415021871210987312837465928374")

Peer = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def peer(go_peer: Path) -> Peer:
    def run(*words: str | Path | int) -> subprocess.CompletedProcess[str]:
        command = [str(word) for word in (go_peer, *words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_vectors(tmp_path_factory.mktemp("vectors"))


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> LiveMesh:
    return live_mesh(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="module")
def other_mesh(tmp_path_factory: pytest.TempPathFactory) -> LiveMesh:
    return live_mesh(tmp_path_factory.mktemp("other"))


@pytest.fixture
def server(go_peer: Path, mesh: LiveMesh) -> Iterator[int]:
    """The port of a secret service in Go, which takes workers only and trusts the mesh CA alone."""
    member = mesh.members["secret-service"]
    files = map(str, (mesh.mesh, member.chain, member.key))
    command = [str(go_peer), "serve", *files, WORKER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.terminate()


@pytest.mark.parametrize("name", CERTIFICATES["names"])
def test_go_reads_all_of_it(name: str, peer: Peer, files: dict[str, Path]) -> None:
    shown = json.loads(peer("read", files[name]).stdout)
    names = CERTIFICATES["names"][name]
    hosts = [text.removeprefix("DNS:") for text in names if text.startswith("DNS:")]
    assert shown["dns_names"] == hosts
    assert shown["uris"] == [text for text in names if not text.startswith("DNS:")]
    assert shown["is_ca"] == (name in ("root_ca", "mesh_ca"))
    assert shown["max_path_len"] == {"root_ca": 1, "mesh_ca": 0}.get(name, -1)
    assert shown["unhandled_critical"] == 0


def test_go_reads_no_arc_of_128_bits(peer: Peer, files: dict[str, Path], tmp_path: Path) -> None:
    """What the certificates of protocol 1 had: this fails if Go has learnt it since."""
    key = ec.generate_private_key(ec.SECP256R1())
    old = x509.load_der_x509_certificate(files["worker"].read_bytes())
    builder = x509.CertificateBuilder(
        old.subject, old.subject, key.public_key(), 1,
        old.not_valid_before_utc, old.not_valid_after_utc,
    )  # fmt: skip
    outcomes = []
    for oid in (x509.ObjectIdentifier("2.25.2147483647"), LONG_ARC):
        made = builder.add_extension(x509.UnrecognizedExtension(oid, bytes(32)), critical=False)
        file = tmp_path / "made.der"
        file.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
        outcomes.append(peer("read", file))
    assert [outcome.returncode for outcome in outcomes] == [0, 1]
    assert "malformed extension OID" in outcomes[1].stderr


@pytest.mark.parametrize("leaf", CHAINS)
def test_go_verifies_a_leaf_for_its_host_name(
    leaf: str, peer: Peer, files: dict[str, Path]
) -> None:
    def verify(host: str, *, root: str = "root_ca", mesh: str = "mesh_ca", now: int = NOW) -> str:
        return peer("verify", files[root], files[mesh], files[leaf], host, now).stderr

    host = CHAINS[leaf]
    assert verify(host) == ""
    assert verify(host, root="mesh_ca") == ""
    assert "certificate is valid for" in verify(WORKER if host == SERVICE else SERVICE)
    assert "certificate is valid for" in verify(f"a.{host}")
    assert "has expired or is not yet valid" in verify(host, now=NOW + 3601)
    assert "has expired or is not yet valid" in verify(host, now=NOW - 301)
    assert "unknown authority" in verify(host, mesh="root_ca")


def test_a_client_in_go_and_a_server_in_go(server: int, peer: Peer, mesh: LiveMesh) -> None:
    member = mesh.members["worker-cpu"]
    answer = peer("ask", mesh.mesh, member.chain, member.key, SERVICE, f"127.0.0.1:{server}")
    assert answer.returncode == 0, answer.stderr
    seen = json.loads(answer.stdout)
    assert seen["sha256"] == sha256(member.leaf).hexdigest()
    assert seen["dns_names"] == [WORKER]
    assert seen["uris"] == [
        "confide:role:worker-cpu",
        f"confide:kem-key:{sha256(b'k').hexdigest()}",
        "confide:model:tiny",
    ]


def test_neither_side_takes_another_role(server: int, peer: Peer, mesh: LiveMesh) -> None:
    address = f"127.0.0.1:{server}"
    worker, service = mesh.members["worker-cpu"], mesh.members["secret-service"]
    as_service = peer("ask", mesh.mesh, service.chain, service.key, SERVICE, address)
    assert "bad certificate" in as_service.stderr
    for_worker = peer("ask", mesh.mesh, worker.chain, worker.key, WORKER, address)
    assert "certificate is valid for secret-service.confide.internal" in for_worker.stderr


def test_neither_side_takes_another_mesh(
    server: int, peer: Peer, mesh: LiveMesh, other_mesh: LiveMesh
) -> None:
    address = f"127.0.0.1:{server}"
    worker, stranger = mesh.members["worker-cpu"], other_mesh.members["worker-cpu"]
    there = peer("ask", other_mesh.mesh, worker.chain, worker.key, SERVICE, address)
    assert "certificate signed by unknown authority" in there.stderr
    here = peer("ask", mesh.mesh, stranger.chain, stranger.key, SERVICE, address)
    assert "remote error: tls" in here.stderr


def test_a_worker_of_ours_and_a_secret_service_in_go(server: int, mesh: LiveMesh) -> None:
    """With the settings that a worker has; the same with a host name that is checked."""
    worker = mesh.members["worker-cpu"].membership
    for checked in (False, True):
        context = client_context(worker)
        context.check_hostname = checked
        plain = http.client.HTTPConnection("127.0.0.1", server, timeout=30)
        plain.connect()
        secured = context.wrap_socket(plain.sock, server_hostname=SERVICE)
        plain.sock = secured
        assert secured.version() == "TLSv1.3"
        assert peer_identity(secured, worker, role="secret-service").models == ("tiny",)
        plain.request("GET", "/")
        assert json.loads(plain.getresponse().read())["dns_names"] == [WORKER]
        plain.close()


def test_a_worker_in_go_and_a_secret_service_of_ours(peer: Peer, mesh: LiveMesh) -> None:
    """With the settings that a secret service has."""
    service, member = mesh.members["secret-service"].membership, mesh.members["worker-cpu"]
    seen: list[MeshIdentity] = []

    def answer(listener: socket.socket) -> None:
        connection = server_context(service).wrap_socket(listener.accept()[0], server_side=True)
        with connection:
            seen.append(peer_identity(connection, service, role="worker-cpu"))
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nours")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        asked = peer("ask", mesh.mesh, member.chain, member.key, SERVICE, address)
        thread.join()
    assert (asked.stdout, asked.stderr) == ("ours", "")
    assert [identity.models for identity in seen] == [("tiny",)]
