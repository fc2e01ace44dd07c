"""The gateway's HTTP face: relays, refuses, and names what is wrong behind it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from types import MappingProxyType

import pytest
from flask.testing import FlaskClient
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from confide.host.gateway.access import Access, Doorkeeper, Everybody
from confide.host.gateway.app import create_app
from confide.host.gateway.routing import Workers
from confide.host.gateway.secret_services import SecretServices
from confide.net.http_client import Upstream
from confide.protocol.keyexchange import InferenceKey, seal_key
from confide.protocol.secret_service import KeyExchangeReply
from confide.protocol.workers import WorkerList
from tests.support.peer import Peer
from tests.support.programs import free_port
from tests.support.simulated_machine import Clock
from tests.support.unread import unread_body

CHAT = "/v1/chat/completions"
HEADERS = {
    "Confide-Version": "2",
    "Confide-Manifest": "cd" * 32,
    "Confide-Model": "tiny",
    "Confide-Key-Id": "ab" * 32,
    "Content-Type": "application/confide-request",
}


@dataclass
class Lab:
    coordinator: Peer
    secret_service: Peer
    workers: list[Peer]
    names: list[bytes]
    routing: Workers
    services: SecretServices

    def headers(self, worker: int = 0) -> dict[str, str]:
        return HEADERS | {"Confide-Worker": self.names[worker].hex()}

    def post(self, changes: Mapping[str, str] = MappingProxyType({})) -> TestResponse:
        return self.http().post(CHAT, data=b"x", headers=self.headers() | dict(changes))

    def http(self, access: Doorkeeper | None = None) -> FlaskClient:
        app = create_app(
            coordinator=Upstream(self.coordinator.url),
            secret_services=self.services,
            workers=self.routing,
            access=access,
        )
        return app.test_client()


@pytest.fixture
def lab(new_peer: Callable[[], Peer]) -> Iterator[Lab]:
    workers, names = [new_peer(), new_peer()], []
    for number, worker in enumerate(workers):
        names.append(worker.is_worker("tiny"))
        worker.says(CHAT, b"answer %d" % number, content_type="application/confide-frames")
    routing = Workers([worker.url for worker in workers])
    secret_service = new_peer()
    secret_service.is_secret_service()
    services = SecretServices([secret_service.url])
    routing.start()
    services.start()
    yield Lab(new_peer(), secret_service, workers, names, routing, services)
    routing.stop()
    services.stop()


def sealed_calls(peer: Peer) -> list[tuple[str, str, dict[str, str], bytes]]:
    return [call for call in peer.seen if call[1] == CHAT]


def key_message(peer: Peer) -> bytes:
    key = InferenceKey(bytes(32), "tiny", 1)
    return seal_key(key, peer.kem.public_bytes, manifest_sha256=bytes(32))


def shown(answer: TestResponse) -> list[bytes]:
    """The ids in a list of workers."""
    return [worker.worker for worker in WorkerList.parse(answer.data).workers]


def test_relays(lab: Lab) -> None:
    lab.coordinator.says("/v1/attest", b"evidence", content_type="application/cbor")
    lab.secret_service.says("/v1/keys", b"refused", status=409, content_type="application/json")
    http = lab.http()
    attest = http.post("/confide/v1/attest", data=b"nonce", content_type="application/cbor")
    assert (attest.status_code, attest.data, attest.content_type) == (
        200,
        b"evidence",
        "application/cbor",
    )
    message = key_message(lab.secret_service)
    keys = http.post("/confide/v1/keys", data=message)
    assert (keys.status_code, keys.data) == (409, b"refused")
    assert lab.secret_service.seen[-1][3] == message
    assert [call[3] for call in lab.coordinator.seen] == [b"nonce"]


def test_secret_services(lab: Lab) -> None:
    answer = lab.http().get("/confide/v1/key-exchange")
    (offer,) = KeyExchangeReply.parse(answer.data).services
    assert offer.kem_public_key == lab.secret_service.kem.public_bytes


def test_a_key_for_a_secret_service_that_is_not_here(lab: Lab) -> None:
    answer = lab.http().post("/confide/v1/keys", data=key_message(lab.workers[0]))
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (410, "kem-key-gone")


def test_workers(lab: Lab) -> None:
    http = lab.http()
    assert set(shown(http.get("/confide/v1/workers?model=tiny"))) == set(lab.names)
    assert len(shown(http.get("/confide/v1/workers?model=big&model=tiny"))) == 2
    assert shown(http.get("/confide/v1/workers?model=big")) == []
    assert shown(http.get("/confide/v1/workers")) == []
    assert http.get("/confide/v1/workers?model=../x").status_code == 400


def test_a_sealed_request_passes_unchanged_to_the_worker_that_was_chosen(lab: Lab) -> None:
    body = bytes(range(256)) * 10
    for number in (0, 1, 0):
        given = lab.headers(number) | {"Authorization": "Bearer secret", "X-Other": "1"}
        answer = lab.http().post(CHAT, data=body, headers=given)
        assert (answer.data, answer.content_type) == (
            b"answer %d" % number,
            "application/confide-frames",
        )
        call = sealed_calls(lab.workers[number])[-1]
        assert call[3] == body
        sent = {name: value for name, value in call[2].items() if name in given or name[:1] == "X"}
        assert sent == lab.headers(number), "neither the gateway's key nor anything else goes on"
    assert [len(sealed_calls(worker)) for worker in lab.workers] == [2, 1]


def test_answers_carry_the_hash_of_the_list(lab: Lab) -> None:
    listed = lab.http().get("/confide/v1/workers?model=tiny")
    answer = lab.post()
    assert answer.headers["Confide-Workers"] == hashlib.sha256(listed.data).hexdigest()


def test_connections_to_workers_are_kept(lab: Lab) -> None:
    """An answer that was not closed with its response would leave its connection behind."""
    http = lab.http()

    def sealed() -> int:
        http.post(CHAT, data=b"x", headers=lab.headers(), buffered=True)
        return len({id(c) for c in lab.routing.peers[0].upstream._idle})

    assert [sealed() for _ in range(4)] == [1, 1, 1, 1]


def test_a_worker_that_is_not_known(lab: Lab) -> None:
    """421 with the list, from which the client chooses another one."""
    answer = lab.post({"Confide-Worker": "00" * 32})
    assert answer.status_code == 421
    assert set(shown(answer)) == set(lab.names)
    assert not any(sealed_calls(worker) for worker in lab.workers)


def test_a_worker_that_does_not_serve_the_model_now(lab: Lab) -> None:
    lab.workers[0].is_worker("tiny", state="starting")
    lab.routing.peers[0].look()
    lab.routing.looked()
    answer = lab.post()
    assert answer.status_code == 421
    assert shown(answer) == [lab.names[1]]


def test_a_worker_that_went_away(lab: Lab) -> None:
    lab.routing.peers[0].upstream = Upstream(f"http://127.0.0.1:{free_port()}")
    answer = lab.post()
    assert answer.status_code == 421
    assert shown(answer) == [lab.names[1]]
    assert not sealed_calls(lab.workers[1]), "the client chooses, not the gateway"


def test_a_request_that_may_have_begun_is_not_sent_again(lab: Lab) -> None:
    for worker in lab.workers:
        worker.sends(CHAT, b"")
    answer = lab.post()
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (502, "peer-lost")
    assert [len(sealed_calls(worker)) for worker in lab.workers] == [1, 0]


def test_the_same_sealed_bytes_never_reach_a_worker_twice(lab: Lab) -> None:
    """It would answer `replay`. The client is told, and seals anew."""
    answered: set[object] = set()

    def hangs_up_the_second_time(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = handler in answered
        if handler not in answered:
            answered.add(handler)
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")

    lab.workers[0].answers[CHAT] = hangs_up_the_second_time
    http = lab.http()
    http.post(CHAT, data=b"one", headers=lab.headers(), buffered=True)
    answer = http.post(CHAT, data=b"two", headers=lab.headers(), buffered=True)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (502, "peer-lost")
    assert [call[3] for call in sealed_calls(lab.workers[0])] == [b"one", b"two"]


def test_a_stream_asks_not_to_be_held_back(lab: Lab) -> None:
    assert "X-Accel-Buffering" not in lab.post().headers
    stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    lab.workers[0].sends(CHAT, stream)
    answer = lab.post()
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["Cache-Control"] == "no-cache, no-transform"


def test_421_does_not_wait_for_the_body(lab: Lab) -> None:
    """The client stops sending a body of which the gateway has read nothing."""
    with served(lab) as url:
        started = time.monotonic()
        upstream = Upstream(url, read_seconds=5)
        body = bytes(16 << 20)
        headers = HEADERS | {"Confide-Worker": "00" * 32}
        with upstream.open("POST", CHAT, body=body, headers=headers) as answer:
            assert answer.status == 421
            assert len(WorkerList.parse(answer.read(1 << 20)).workers) == 2
        assert not upstream._idle, "the connection on which the body broke off is not kept"
        assert time.monotonic() - started < 5


@contextmanager
def served(lab: Lab) -> Iterator[str]:
    """The gateway's app behind a real socket that takes a body only if the app reads it."""
    server = make_server("127.0.0.1", 0, lab.http().application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


def test_services_that_are_not_there(lab: Lab) -> None:
    lab.coordinator.port = free_port()
    lab.services.peers[0].upstream = Upstream(f"http://127.0.0.1:{free_port()}")
    http = lab.http()
    for answer in (
        http.post("/confide/v1/attest", data=b""),
        http.post("/confide/v1/keys", data=key_message(lab.secret_service)),
    ):
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (502, "peer-unreachable")


def test_an_answer_that_is_too_large(lab: Lab) -> None:
    lab.coordinator.says("/v1/attest", b"x" * (8 << 20))
    answer = lab.http().post("/confide/v1/attest", data=b"")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (502, "answer-too-large")


@pytest.mark.parametrize(
    ("header", "value"),
    [("Confide-Model", model) for model in ("", "../x", "A", "x" * 300)]
    + [("Confide-Worker", worker) for worker in ("", "x", "AB" * 32, "ab" * 31)],
)
def test_malformed_headers(lab: Lab, header: str, value: str) -> None:
    assert lab.post({header: value}).status_code == 400


def test_oversized_body(lab: Lab) -> None:
    answer = lab.http().post(CHAT, data=b"x" * ((16 << 20) + 1), headers=lab.headers())
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
    assert http.post(CHAT, data=b"x", headers=lab.headers() | key).status_code == 200
    assert http.get("/v1/models", headers=key).status_code == 200
    limited = http.post(CHAT, data=b"x", headers=lab.headers() | key)
    assert limited.status_code == 200, "a list is no request"
    limited = http.post(CHAT, data=b"x", headers=lab.headers() | key)
    assert (limited.status_code, limited.get_json()["error"]["code"]) == (429, "rate-limited")
    assert 25 <= int(limited.headers["Retry-After"]) <= 30


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Authorization": "Bearer other"}, 401),
        ({"Confide-Worker": "00" * 32}, 421),
        ({"Confide-Worker": "x"}, 400),
        ({"Confide-Key-Id": "x"}, 400),
        ({"Confide-Manifest": "x"}, 400),
        ({"Confide-Version": "1"}, 400),
        ({"Confide-Model": "../x"}, 400),
        ({"Content-Type": "text/plain"}, 400),
    ],
)
def test_what_headers_refuse_costs_no_body(
    lab: Lab, changes: Mapping[str, str], status: int
) -> None:
    http = lab.http(Access({hashlib.sha256(b"k").digest(): 10}))
    headers = lab.headers() | {"Authorization": "Bearer k"}
    assert http.post(CHAT, headers=headers, **unread_body()).status_code == 500, "else it is read"
    assert http.post(CHAT, headers=headers, **unread_body(17 << 20)).status_code == 413
    answer = http.post(CHAT, headers=headers | dict(changes), **unread_body())
    assert answer.status_code == status


def test_a_stream_that_breaks_breaks(lab: Lab) -> None:
    wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    for worker in lab.workers:
        worker.sends(CHAT, wire)
    response = lab.http().post(CHAT, data=b"x", headers=lab.headers(), buffered=False)
    pieces = iter(response.response)
    assert next(pieces) == b"abc"
    with pytest.raises(ConnectionResetError):
        next(pieces)
    response.close()


def test_when_to_ask_again_is_passed_on(lab: Lab) -> None:
    """A coordinator's, a secret service's and a worker's `Retry-After`, or else the usual one."""
    said = {b"2": "2", b"99999999": "3600", b"0": "5", b"soon": "5", b"-1": "5", b"": "5"}
    for wire, expected in said.items():
        answer = b"HTTP/1.1 429 x\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n" % wire
        lab.coordinator.sends("/v1/attest", answer)
        lab.secret_service.sends("/v1/keys", answer)
        lab.workers[0].sends(CHAT, answer)
        http = lab.http()
        for relayed in (
            http.post("/confide/v1/attest", data=b"nonce"),
            http.post("/confide/v1/keys", data=key_message(lab.secret_service)),
            lab.post(),
        ):
            assert relayed.status_code == 429
            assert relayed.headers.get("Retry-After") == expected


def test_attestation_and_key_messages_use_up_no_requests(lab: Lab) -> None:
    """A client that attests in a loop is refused that, and still gets its answers."""
    lab.coordinator.says("/v1/attest", b"evidence")
    lab.secret_service.says("/v1/keys", b"accepted")
    http = lab.http(Access({hashlib.sha256(b"k").digest(): 2}, clock=Clock(0.0)))
    key = {"Authorization": "Bearer k"}
    message = key_message(lab.secret_service)
    calls: list[tuple[int, Callable[[], TestResponse]]] = [
        (30, lambda: http.post("/confide/v1/attest", data=b"", headers=key)),
        (256, lambda: http.post("/confide/v1/keys", data=message, headers=key)),
        (120, lambda: http.get("/confide/v1/key-exchange", headers=key)),
        (62, lambda: http.get("/confide/v1/workers?model=tiny", headers=key)),
    ]
    for most, call in calls:
        assert [call().status_code for _ in range(most + 2)] == [200] * most + [429] * 2
        assert int(call().headers["Retry-After"]) >= 1
    assert http.post(CHAT, data=b"x", headers=lab.headers() | key).status_code == 200


def test_without_api_keys_an_address_sends_few_key_messages(lab: Lab) -> None:
    lab.secret_service.says("/v1/keys", b"accepted")
    http, message = lab.http(Everybody(clock=Clock(0.0))), key_message(lab.secret_service)
    statuses = [http.post("/confide/v1/keys", data=message).status_code for _ in range(260)]
    assert statuses.count(200) == 256
    other = {"REMOTE_ADDR": "192.0.2.7"}
    answer = http.post("/confide/v1/keys", data=message, environ_overrides=other)
    assert answer.status_code == 200
    forged = {"X-Forwarded-For": "192.0.2.8"}
    assert http.post("/confide/v1/keys", data=message, headers=forged).status_code == 429
