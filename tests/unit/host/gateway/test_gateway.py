"""The gateway's HTTP face: relays, refuses, and names what is wrong behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from flask.testing import FlaskClient

from confide.host.gateway.access import Access
from confide.host.gateway.app import create_app
from confide.host.gateway.routing import Workers
from confide.net.http_client import Upstream
from tests.support.peer import Peer
from tests.support.programs import free_port

CHAT = "/v1/chat/completions"
HEADERS = {
    "Confide-Version": "1",
    "Confide-Model": "tiny",
    "Confide-Key-Id": "ab" * 32,
    "Content-Type": "application/confide-request",
}


@dataclass
class Lab:
    coordinator: Peer
    secret_service: Peer
    workers: list[Peer]
    routing: Workers

    def http(self, access: Access | None = None) -> FlaskClient:
        app = create_app(
            coordinator=Upstream(self.coordinator.url),
            secret_service=Upstream(self.secret_service.url),
            workers=self.routing,
            access=access,
        )
        return app.test_client()


@pytest.fixture
def lab(new_peer: Callable[[], Peer]) -> Iterator[Lab]:
    workers = [new_peer(), new_peer()]
    for number, worker in enumerate(workers):
        worker.is_worker("tiny")
        worker.says(CHAT, b"answer %d" % number, content_type="application/confide-frames")
    routing = Workers([worker.url for worker in workers])
    routing.start()
    yield Lab(new_peer(), new_peer(), workers, routing)
    routing.stop()


def sealed_calls(peer: Peer) -> list[tuple[str, str, dict[str, str], bytes]]:
    return [call for call in peer.seen if call[1] == CHAT]


def test_relays(lab: Lab) -> None:
    lab.coordinator.says("/v1/attest", b"evidence", content_type="application/cbor")
    lab.secret_service.says("/v1/key-exchange", b"offer", content_type="application/cbor")
    lab.secret_service.says("/v1/keys", b"refused", status=409, content_type="application/json")
    http = lab.http()
    attest = http.post("/confide/v1/attest", data=b"nonce", content_type="application/cbor")
    assert (attest.status_code, attest.data, attest.content_type) == (
        200,
        b"evidence",
        "application/cbor",
    )
    assert http.get("/confide/v1/key-exchange").data == b"offer"
    keys = http.post("/confide/v1/keys", data=b"key")
    assert (keys.status_code, keys.data) == (409, b"refused")
    assert [call[3] for call in lab.coordinator.seen] == [b"nonce"]


def test_a_sealed_request_passes_unchanged(lab: Lab) -> None:
    body = bytes(range(256)) * 10
    given = HEADERS | {"Authorization": "Bearer secret", "X-Other": "1", "Confide-Shard-Key": "s"}
    answer = lab.http().post(CHAT, data=body, headers=given)
    assert answer.content_type == "application/confide-frames"
    (call,) = [call for worker in lab.workers for call in sealed_calls(worker)]
    assert call[3] == body
    sent = {name: value for name, value in call[2].items() if name in given or name[:1] == "X"}
    assert sent == HEADERS, "neither the gateway's key nor anything else goes on"


def test_connections_to_workers_are_kept(lab: Lab) -> None:
    """An answer that was not closed with its response would leave its connection behind."""
    http = lab.http()
    shard = HEADERS | {"Confide-Shard-Key": "s"}
    http.post(CHAT, data=b"x", headers=shard, buffered=True)
    before = [worker.connections for worker in lab.workers]
    for _ in range(3):
        http.post(CHAT, data=b"x", headers=shard, buffered=True)
    assert [worker.connections for worker in lab.workers] == before


def test_one_shard_key_one_worker(lab: Lab) -> None:
    http = lab.http()
    answers = {
        http.post(CHAT, data=b"x", headers=HEADERS | {"Confide-Shard-Key": "one"}).data
        for _ in range(5)
    }
    assert len(answers) == 1


def test_a_worker_that_went_away_is_passed_over(lab: Lab) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    routing = Workers([gone, lab.workers[0].url])
    for worker in routing._workers:
        worker.models = frozenset({"tiny"})
    lab.routing = routing
    for _ in range(3):
        assert lab.http().post(CHAT, data=b"x", headers=HEADERS).data == b"answer 0"
    assert routing._workers[0].models == frozenset()
    assert routing._workers[0].in_flight == 0


def test_a_request_that_may_have_begun_is_not_sent_to_another_worker(lab: Lab) -> None:
    for worker in lab.workers:
        worker.sends(CHAT, b"")
    answer = lab.http().post(CHAT, data=b"x", headers=HEADERS)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (502, "peer-lost")
    # On a connection of its own each worker is asked once; only an idle one may be stale.
    assert sum(len(sealed_calls(worker)) for worker in lab.workers) == 1


def test_no_worker_for_the_model(lab: Lab) -> None:
    answer = lab.http().post(CHAT, data=b"x", headers=HEADERS | {"Confide-Model": "big"})
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "no-worker")


def test_services_that_are_not_there(lab: Lab) -> None:
    lab.coordinator.port = lab.secret_service.port = free_port()
    http = lab.http()
    for answer in (
        http.post("/confide/v1/attest", data=b""),
        http.get("/confide/v1/key-exchange"),
        http.post("/confide/v1/keys", data=b""),
    ):
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (502, "peer-unreachable")


def test_an_answer_that_is_too_large(lab: Lab) -> None:
    lab.coordinator.says("/v1/attest", b"x" * (8 << 20))
    answer = lab.http().post("/confide/v1/attest", data=b"")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (502, "answer-too-large")


@pytest.mark.parametrize("model", ["", "../x", "A", "x" * 300])
def test_malformed_model(lab: Lab, model: str) -> None:
    answer = lab.http().post(CHAT, data=b"x", headers=HEADERS | {"Confide-Model": model})
    assert answer.status_code == 400


def test_oversized_body(lab: Lab) -> None:
    answer = lab.http().post(CHAT, data=b"x" * ((16 << 20) + 1), headers=HEADERS)
    assert answer.status_code == 413
    assert not any(sealed_calls(worker) for worker in lab.workers)


def test_models_and_health(lab: Lab) -> None:
    http = lab.http()
    assert [model["id"] for model in http.get("/v1/models").get_json()["data"]] == ["tiny"]
    assert http.get("/healthz").get_json() == {
        "role": "gateway",
        "state": "ready",
        "models": ["tiny"],
        "clock_skew": {},
    }


def test_api_keys(lab: Lab) -> None:
    http = lab.http(Access({hashlib.sha256(b"k").digest(): 2}))
    assert http.get("/healthz").status_code == 200
    assert http.get("/v1/models").status_code == 401
    assert http.post("/confide/v1/attest", data=b"").status_code == 401
    key = {"Authorization": "Bearer k"}
    assert http.post(CHAT, data=b"x", headers=HEADERS | key).status_code == 200
    assert http.get("/v1/models", headers=key).status_code == 200
    limited = http.post(CHAT, data=b"x", headers=HEADERS | key)
    assert (limited.status_code, limited.get_json()["error"]["code"]) == (429, "rate-limited")


def test_a_stream_that_breaks_breaks(lab: Lab) -> None:
    wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    for worker in lab.workers:
        worker.sends(CHAT, wire)
    response = lab.http().post(CHAT, data=b"x", headers=HEADERS, buffered=False)
    pieces = iter(response.response)
    assert next(pieces) == b"abc"
    with pytest.raises(ConnectionResetError):
        next(pieces)
    response.close()
    assert all(worker.in_flight == 0 for worker in lab.routing._workers)
