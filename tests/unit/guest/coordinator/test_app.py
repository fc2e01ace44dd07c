"""The coordinator's HTTP face: hostile bodies, and requests side by side."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from threading import Event, Semaphore

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from confide.errors import PolicyError
from confide.guest.coordinator import app
from confide.guest.coordinator.app import MAX_UPLOADS, create_app
from confide.guest.coordinator.domain import Coordinator
from confide.protocol.collateral import MAX_BUNDLE, MAX_ITEMS, Bundle, Item
from confide.protocol.coordinator import (
    MAX_JOIN,
    Attestation,
    CollateralReply,
    JoinRequest,
    ManifestSet,
    MeshReply,
    Nonce,
    RefusedJoin,
    SetManifest,
)
from confide.protocol.kem import KemPrivateKey
from tests.support.simulated_machine import Clock, SimulatedMachine, manifest_bytes, manifest_value

MANIFEST = manifest_bytes()
JOIN = JoinRequest("worker-cpu", bytes(32), b"key", b"", ("tiny",), bytes(32), b"evidence")
MESSAGES = {
    "/v1/attest": Nonce(bytes(32)).encode(),
    "/v1/manifest": SetManifest(MANIFEST).encode(),
    "/v1/join": JOIN.encode(),
}


def new_coordinator() -> Coordinator:
    machine = SimulatedMachine("coordinator", manifest=MANIFEST)
    return Coordinator(machine, binding=machine.binding, now=Clock())


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    coordinator = new_coordinator()
    coordinator.set_manifest(MANIFEST)
    return create_app(coordinator).test_client()


def test_attest(client: FlaskClient) -> None:
    answer = client.post("/v1/attest", data=MESSAGES["/v1/attest"])
    assert answer.content_type == "application/cbor"
    assert Attestation.parse(answer.data).manifest == MANIFEST


def test_set_manifest(client: FlaskClient) -> None:
    answer = client.post("/v1/manifest", data=MESSAGES["/v1/manifest"])
    assert ManifestSet.parse(answer.data).sha256 == sha256(MANIFEST).digest()


def test_without_manifest() -> None:
    client = create_app(new_coordinator()).test_client()
    assert client.get("/healthz").json == {"role": "coordinator", "state": "no-manifest"}
    for answer in (client.get("/v1/manifest"), client.post("/v1/join", data=JOIN.encode())):
        assert answer.status_code == 404
        assert answer.json is not None
        assert answer.json["error"]["code"] == "no-manifest"


@pytest.mark.parametrize("path", MESSAGES)
@given(data=st.binary(max_size=300))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_garbage(client: FlaskClient, path: str, data: bytes) -> None:
    assert 400 <= client.post(path, data=data).status_code < 500


@pytest.mark.parametrize("path", MESSAGES)
@given(at=st.integers(min_value=0), bit=st.integers(0, 7), cut=st.booleans())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_message(client: FlaskClient, path: str, at: int, bit: int, cut: bool) -> None:
    data = bytearray(MESSAGES[path])
    at %= len(data)
    data[at] ^= 1 << bit
    answer = client.post(path, data=bytes(data[:at] if cut else data))
    # A damaged nonce is another nonce; everything else must be refused, in words.
    assert answer.status_code < 500
    if path != "/v1/attest" or cut:
        assert answer.status_code >= 400
        assert answer.json is not None


@pytest.mark.parametrize("path", MESSAGES)
def test_only_collateral_may_be_large(client: FlaskClient, path: str) -> None:
    """A body is in memory before anything looks at it, and many may come at once."""
    large = bytes(MAX_JOIN + 1)
    assert client.post(path, data=large).status_code == 413
    answer = client.post("/v1/collateral", data=large)
    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["error"]["code"] == "bad-cbor"
    answer = client.post("/v1/collateral", data=bytes(MAX_BUNDLE + 1))
    assert answer.status_code == 413
    assert answer.json is not None
    assert answer.json["error"]["expected"] == f"at most {MAX_BUNDLE} bytes"


def test_collateral_before_the_manifest() -> None:
    """Nobody knows yet which items are of use."""
    client = create_app(new_coordinator()).test_client()
    bundle = Bundle({"amd/milan/crl": Item(b"crl", 7)})
    answer = client.post("/v1/collateral", data=bundle.encode())
    assert (answer.status_code, answer.json and answer.json["error"]["code"]) == (
        404,
        "no-manifest",
    )
    assert Bundle.parse(client.get("/v1/collateral").data) == Bundle()


def test_what_became_of_collateral(client: FlaskClient) -> None:
    """A development manifest has no use for any."""
    bundle = Bundle({"amd/milan/crl": Item(b"crl", 7)}).encode()
    reply = CollateralReply.parse(client.post("/v1/collateral", data=bundle).data)
    assert (reply.added, reply.ignored) == ((), ())
    assert [(item.name, item.code) for item in reply.refused] == [
        ("amd/milan/crl", "collateral-not-needed")
    ]
    assert "no machine of the manifest can need amd/milan/crl" in reply.refused[0].reason
    assert Bundle.parse(client.get("/v1/collateral").data) == Bundle()
    assert client.post("/v1/collateral", data=bundle[:-1]).status_code == 400


def test_an_answer_about_as_many_items_as_there_can_be(client: FlaskClient) -> None:
    names = [f"a/{'x' * 160}/{number:04}" for number in range(MAX_ITEMS)]
    bundle = Bundle(dict.fromkeys(names, Item(b"", 0)))
    reply = CollateralReply.parse(client.post("/v1/collateral", data=bundle.encode()).data)
    assert len(reply.refused) == MAX_ITEMS


def test_few_may_bring_collateral_at_once() -> None:
    """Anybody may, so the memory for it is bounded: the others are asked to come again."""
    coordinator = new_coordinator()
    entered, leave = Semaphore(0), Event()

    def slow(data: bytes) -> CollateralReply:
        entered.release()
        leave.wait(10)
        return CollateralReply((), (), ())

    coordinator.add_collateral = slow  # type: ignore[method-assign]
    service = create_app(coordinator)

    def post() -> TestResponse:
        return service.test_client().post("/v1/collateral", data=b"x")

    with ThreadPoolExecutor(MAX_UPLOADS) as pool:
        uploads = [pool.submit(post) for _ in range(MAX_UPLOADS)]
        for _ in uploads:
            assert entered.acquire(timeout=10)
        refused = post()
        leave.set()
        assert [upload.result().status_code for upload in uploads] == [200] * MAX_UPLOADS
    assert refused.status_code == 429
    assert refused.json is not None
    assert refused.json["error"]["code"] == "too-many-uploads"
    assert post().status_code == 200


def test_a_slow_upload_is_cut_off(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else anybody keeps every place for uploads with a byte every few seconds."""
    monkeypatch.setattr(app, "UPLOAD_SECONDS", 0.05)
    peer, service = socket.socketpair()
    with peer, service, service.makefile("rb") as body:
        peer.sendall(b"\xa0")
        service.settimeout(10)
        answer = client.post(
            "/v1/collateral",
            environ_overrides={
                "CONTENT_LENGTH": "1000",
                "wsgi.input": body,
                "gunicorn.socket": service,
            },
        )
        assert peer.recv(1) == b""
    assert answer.status_code == 408


def test_manifests_that_race() -> None:
    """No caller can be first with another manifest, and there is one mesh in the end."""
    model = manifest_value()["models"][0]
    manifests = [manifest_bytes(models=[model | {"name": f"model-{n}"}]) for n in range(6)]
    manifests += [MANIFEST, MANIFEST]
    coordinator = new_coordinator()

    def attempt(manifest: bytes) -> MeshReply | None:
        try:
            coordinator.set_manifest(manifest)
        except PolicyError:
            return None
        return coordinator.mesh()

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(attempt, manifests))
    assert taken == [None] * 6 + [coordinator.mesh()] * 2
    assert coordinator.attest(bytes(32)).manifest == MANIFEST


def test_what_was_refused() -> None:
    coordinator = new_coordinator()
    coordinator.set_manifest(MANIFEST)
    client = create_app(coordinator).test_client()
    answer = client.get("/v1/refused")
    assert answer.status_code == 404
    assert answer.json is not None
    assert answer.json["error"]["code"] == "none-refused"
    evidence = SimulatedMachine("worker-cpu").evidence(bytes(64)).encode()
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    manifest_sha256 = sha256(MANIFEST).digest()
    nonce = coordinator.challenge()
    kem = KemPrivateKey.generate().public_bytes
    join = JoinRequest("worker-cpu", nonce, spki, kem, ("tiny",), manifest_sha256, evidence)
    assert client.post("/v1/join", data=join.encode()).status_code == 403
    assert RefusedJoin.parse(client.get("/v1/refused").data) == RefusedJoin("worker-cpu", evidence)
