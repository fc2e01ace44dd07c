"""The worker's face: what opens, what is refused in the clear, what is answered sealed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from confide.encoding.x509 import load_certificate
from confide.errors import UnavailableError
from confide.guest.mesh.join import Node
from confide.net.http_client import Upstream
from confide.protocol.certificates import parse_leaf
from confide.protocol.keyexchange import worker_key
from confide.protocol.receipt import Receipt, Statement
from confide.protocol.secret_service import ReleasedKey
from confide.protocol.usage import TOKEN, Usage
from confide.verify.receipt import verify_receipt
from tests.support.programs import free_port
from tests.support.sealed_worker import (
    CHAT,
    HELLO,
    STREAM,
    Client,
    Opened,
    Worker,
    open_answer,
    sealed_error,
)
from tests.support.unread import unread_body


def clear_error(opened: Opened) -> str:
    assert opened.error is not None and opened.head is None and not opened.body
    return opened.error.code


def test_a_whole_answer(client: Client) -> None:
    opened = client.ask(HELLO)
    assert opened.head is not None and opened.head.status == 200
    answer = json.loads(opened.body)
    assert answer["choices"][0]["message"]["content"].startswith("It was a fake engine")
    assert opened.usage == Usage(TOKEN, 7, 8)


def test_a_stream(client: Client) -> None:
    opened = client.ask(STREAM)
    assert opened.head is not None and opened.head.content_type.startswith("text/event-stream")
    assert opened.body.endswith(b"data: [DONE]\n\n")
    assert b'"usage"' not in opened.body, "the client did not ask for it"
    assert opened.usage == Usage(TOKEN, 7, 8)


def test_connections_to_the_engine_are_kept(worker: Worker, client: Client) -> None:
    """A stream that was not closed with its response would leave its connection behind."""
    stats = Upstream(worker.engine)

    def connections() -> int:
        return int(json.loads(stats.call("GET", "/stats")[2])["connections"])

    client.ask(STREAM)
    before = connections()
    for _ in range(3):
        client.ask(STREAM)
        client.ask(HELLO)
    assert connections() == before


def test_the_receipt(worker: Worker, client: Client) -> None:
    sealed, sealer = client.seal(HELLO)
    answer = worker.http.post(CHAT, data=sealed, headers=client.headers())
    opener = sealer.response_opener()
    opened = open_answer(opener, answer.data)
    member = worker.membership
    statement = Statement.parse(Receipt.parse(opened.receipt).statement)
    verify_receipt(
        opened.receipt,
        mesh_ca=member.mesh_ca,
        root_ca=member.root_ca,
        roles=("worker-cpu",),
        worker=member.worker_id,
        request_sha256=sealer.request_sha256,
        response_sha256=opener.response_sha256,
        manifest_sha256=member.manifest.sha256,
        model="tiny",
        model_root_hash=bytes.fromhex("cd" * 32),
        usage=opened.usage,
        now=statement.time,
    )


def stolen(client: Client, worker: Worker, node: Node, *, manifest: bool = True) -> str:
    """What another worker of the mesh makes of a request to `worker`, with a key of its own."""
    other = Worker(worker.engine, node)
    mine = worker_key(client.key, worker=node.membership().worker_id, model="tiny")
    other.secrets[client.key_id] = ReleasedKey(mine, "tiny", 3600)
    sealed, sealer = client.seal(HELLO)
    headers = client.headers() | {"Confide-Worker": node.membership().worker_id.hex()}
    kem = client.kem_sha256
    codes = []
    # As it was recorded; addressed to the thief; and with the thief's KEM key named.
    for body, said in (
        (sealed, client.headers()),
        (sealed, headers),
        (sealed.replace(kem, bytes.fromhex(kem_of(node)), 1), headers),
    ):
        answer = other.http.post(CHAT, data=body, headers=said).data
        codes.append(clear_error(open_answer(sealer.response_opener(), answer)))
    return " ".join(codes)


def kem_of(node: Node) -> str:
    identity = parse_leaf(load_certificate(node.membership().certificate, "worker"))
    assert identity.kem_key_sha256 is not None
    return identity.kem_key_sha256.hex()


def test_another_worker_cannot_open_a_recorded_request(
    worker: Worker, client: Client, other_node: Node
) -> None:
    """It has the same model, a genuine certificate and K_w of its own for the client's key."""
    assert stolen(client, worker, other_node) == "wrong-worker kem-key-gone bad-key-seal"


def test_a_request_answered_twice_has_unrelated_answers(worker: Worker, client: Client) -> None:
    """If a worker ever opened one twice, the answers must not share a key stream."""
    sealed, sealer = client.seal(HELLO)
    twin = Worker(worker.engine, worker.node, secrets=worker.secrets)
    one, two = (
        w.http.post(CHAT, data=sealed, headers=client.headers()).data for w in (worker, twin)
    )
    assert open_answer(sealer.response_opener(), one).body == (
        open_answer(sealer.response_opener(), two).body
    )
    assert one[5:37] != two[5:37]
    # The first sealed frame holds the same head in both.
    assert one[42:] != two[42:]


def test_replay(worker: Worker, client: Client) -> None:
    sealed, sealer = client.seal(HELLO)
    assert worker.http.post(CHAT, data=sealed, headers=client.headers()).data
    again = worker.http.post(CHAT, data=sealed, headers=client.headers()).data
    assert clear_error(open_answer(sealer.response_opener(), again)) == "replay"


def test_a_forged_request_does_not_burn_the_counter(worker: Worker, client: Client) -> None:
    sealed, sealer = client.seal(HELLO)
    forged = sealed[:-1] + bytes([sealed[-1] ^ 1])
    answer = worker.http.post(CHAT, data=forged, headers=client.headers()).data
    assert clear_error(open_answer(sealer.response_opener(), answer)) == "bad-seal"
    honest = worker.http.post(CHAT, data=sealed, headers=client.headers()).data
    assert open_answer(sealer.response_opener(), honest).body


@pytest.mark.parametrize("sealed", [b"", b"x", b"x" * 1759, b"x" * 1760, b"x" * 4000])
def test_bodies_that_are_not_sealed(worker: Worker, client: Client, sealed: bytes) -> None:
    answer = worker.http.post(CHAT, data=sealed, headers=client.headers()).data
    opener = client.seal(HELLO)[1].response_opener()
    assert clear_error(open_answer(opener, answer)) in ("bad-request-size", "kem-key-gone")


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("Confide-Model", "second", "model-not-allowed"),
        ("Confide-Model", "third", "model-not-served"),
        ("Confide-Key-Id", "00" * 32, "unknown-key"),
        ("Confide-Manifest", "00" * 32, "wrong-manifest"),
        ("Confide-Worker", "00" * 32, "wrong-worker"),
    ],
)
def test_what_the_headers_say_is_bound(
    worker: Worker, client: Client, header: str, value: str, code: str
) -> None:
    sealed, sealer = client.seal(HELLO)
    answer = worker.http.post(CHAT, data=sealed, headers=client.headers() | {header: value}).data
    assert clear_error(open_answer(sealer.response_opener(), answer)) == code
    assert client.send(sealed, sealer).body, "the same request, unchanged"


def test_the_path_is_bound(worker: Worker, client: Client) -> None:
    sealed, sealer = client.seal(HELLO)
    assert clear_error(client.send(sealed, sealer, path="/v1/completions")) == "bad-seal"


def test_a_key_for_another_model(worker: Worker) -> None:
    """The header names it and the worker serves it, but the client's key is for `second`."""
    assert clear_error(Client(worker, model="second").ask(HELLO)) == "model-not-allowed"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"content_type": "multipart/form-data; boundary=x"}, "bad-content-type"),
        ({"content_type": ""}, "bad-content-type"),
        ({"pace_ms": 20}, "bad-pace"),
    ],
)
def test_content_that_later_versions_know(
    client: Client, content: dict[str, Any], code: str
) -> None:
    assert sealed_error(client.ask(HELLO, **content)) == (400, code)


def test_an_unknown_key(worker: Worker, client: Client) -> None:
    worker.secrets.clear()
    assert clear_error(client.ask(HELLO)) == "unknown-key"


def test_a_node_without_membership(worker: Worker, client: Client) -> None:
    worker.joined = False
    assert clear_error(client.ask(HELLO)) == "not-attested"


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
@pytest.mark.parametrize(
    "header",
    [
        "Content-Type", "Confide-Version", "Confide-Model", "Confide-Key-Id", "Confide-Manifest",
        "Confide-Worker",
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", ["", "x" * 300, "../../etc", "\t"])
def test_headers_that_are_none(
    worker: Worker, client: Client, path: str, header: str, value: str
) -> None:
    headers = client.headers() | {header: value}
    answer = worker.http.post(path, data=b"x" * 100, headers=headers)
    assert answer.status_code == 400
    assert answer.get_json()["error"]["code"]


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("Confide-Key-Id", "ab" * 32, "unknown-key"),
        ("Confide-Worker", "ab" * 32, "wrong-worker"),
        ("Confide-Manifest", "ab" * 32, "wrong-manifest"),
        ("Confide-Model", "third", "model-not-served"),
        ("Confide-Model", "second", "model-not-allowed"),
    ],
)
def test_what_headers_refuse_costs_no_body(
    worker: Worker, client: Client, header: str, value: str, code: str
) -> None:
    """Strangers know no key id. So what they send is not kept, not even for a moment."""
    headers = client.headers()
    assert worker.http.post(CHAT, headers=headers, **unread_body()).status_code == 500, "else read"
    answer = worker.http.post(CHAT, headers=headers | {header: value}, **unread_body())
    assert answer.status_code == 200
    assert clear_error(open_answer(client.seal(HELLO)[1].response_opener(), answer.data)) == code


def test_other_paths(worker: Worker) -> None:
    assert worker.http.post("/v1/embeddings").status_code == 404
    assert worker.http.get(CHAT).status_code == 405
    assert worker.http.get("/metrics").status_code == 404


def test_oversized_body(worker: Worker, client: Client) -> None:
    answer = worker.http.post(CHAT, data=b"x" * ((16 << 20) + 1), headers=client.headers())
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad-json"),
        (b"{", "bad-json"),
        (b"[]", "bad-json"),
        (b"[" * 50_000, "bad-json"),
        (b"\xff", "bad-json"),
        (b'{"model": "tiny", "temperature": Infinity}', "bad-json"),
        (b'{"model": "tiny", "temperature": 1e999}', "bad-json"),
        (b"{}", "model-mismatch"),
        (b'{"model": ["tiny"]}', "model-mismatch"),
        (b'{"model": "second"}', "model-mismatch"),
        (b'{"model": "tiny", "model": "second"}', "model-mismatch"),
    ],
)
def test_bad_requests_are_answered_sealed(client: Client, body: bytes, code: str) -> None:
    assert sealed_error(client.ask(body)) == (400, code)


def test_the_engine_refuses(client: Client) -> None:
    opened = client.ask(HELLO.replace(b"hello", b"fail"))
    assert opened.head is not None and opened.head.status == 400
    assert "the engine says no" in json.loads(opened.body)["error"]["message"]


def test_the_engine_is_not_there(worker: Worker) -> None:
    lonely = Worker(f"http://127.0.0.1:{free_port()}", worker.node)
    assert sealed_error(Client(lonely).ask(HELLO)) == (502, "peer-unreachable")
    assert sealed_error(Client(lonely).ask(STREAM)) == (502, "peer-unreachable")


def test_the_engine_breaks_in_the_middle(client: Client) -> None:
    opened = client.ask(STREAM.replace(b"hello", b"break events=8 gap=0.01"))
    events = opened.body.split(b"\n\n")
    error = json.loads(events[-2].removeprefix(b"data: "))["error"]
    assert error["code"] == "peer-lost"
    assert opened.receipt, "what did arrive is vouched for, with the error as its end"


def test_the_engine_ends_within_an_event(client: Client) -> None:
    opened = client.ask(STREAM.replace(b"hello", b"half"))
    assert b'data: {"id"\n' not in opened.body
    assert b'"code": "engine-lost"' in opened.body


def test_membership_that_ends_during_an_answer(worker: Worker, client: Client) -> None:
    """No receipt, no final frame: the response breaks off."""
    sealed, sealer = client.seal(STREAM.replace(b"hello", b"events=4 gap=0.01"))
    response = worker.http.post(CHAT, data=sealed, headers=client.headers(), buffered=False)
    pieces = response.iter_encoded()
    received = next(pieces)
    worker.joined = False
    with pytest.raises(ConnectionResetError):
        for piece in pieces:
            received += piece
    opener = sealer.response_opener()
    opener.feed(received)
    with pytest.raises(Exception, match="final frame"):
        opener.finish()


def test_membership_that_ends_before_a_whole_answer(worker: Worker, client: Client) -> None:
    """Nothing was sent yet: the client gets a plain error instead of half an answer."""
    end = worker.keys.open

    def opened(*arguments: Any, **options: Any) -> Any:
        worker.joined = False
        return end(*arguments, **options)

    worker.keys.open = opened  # type: ignore[method-assign]
    sealed, _ = client.seal(HELLO)
    answer = worker.http.post(CHAT, data=sealed, headers=client.headers())
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "not-attested")


def test_plaintext_is_not_in_errors(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    secret = b"\xffthe patient has"
    client.ask(secret)
    client.ask(b'{"model": "the patient has"')
    assert "patient" not in "".join(capfd.readouterr())


def test_health(worker: Worker) -> None:
    health = worker.http.get("/healthz").get_json()
    assert health == {
        "role": "worker-cpu",
        "state": "ready",
        "models": {"second": "ready", "tiny": "ready"},
    }


def test_health_is_ready_only_if_every_model_is(worker: Worker) -> None:
    worker.states["tiny"] = "engine-ended"
    health = worker.http.get("/healthz").get_json()
    assert health["state"] == "engine-ended"
    assert health["models"] == {"second": "ready", "tiny": "engine-ended"}


def test_worker_without_a_ready_model_answers_503(worker: Worker, client: Client) -> None:
    worker.states = {"second": "disk-not-open", "tiny": "starting"}
    health = worker.http.get("/healthz")
    assert (health.status_code, health.get_json()["state"]) == (503, "disk-not-open")
    sealed, _ = client.seal(HELLO)
    answer = worker.http.post(CHAT, data=sealed, headers=client.headers())
    assert answer.status_code == 503
    error = answer.get_json()["error"]
    assert error["code"] == "engine-not-ready"
    assert error["seen"] == "second: disk-not-open, tiny: starting"

    worker.states["second"] = "ready"
    assert worker.http.get("/healthz").status_code == 200
    assert worker.http.post(CHAT, data=sealed, headers=client.headers()).status_code == 200


def test_peers_of_the_engine_are_told_apart(engine: str) -> None:
    with pytest.raises(UnavailableError, match="closed the connection"):
        Upstream(engine).call("GET", "/no such path")
