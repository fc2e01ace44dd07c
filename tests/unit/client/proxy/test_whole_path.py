"""Apps at the proxy, with everything behind it in place (attestation is SIMULATED)."""

from __future__ import annotations

import http.client
import json
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest

from confide.client.kept_receipt import read_kept, verify_kept
from confide.protocol.usage import TOKEN, Usage
from tests.support.app import ANSWER, App, engine_stats
from tests.support.hostile_gateway import HostileGateway
from tests.support.native_service import NativeService
from tests.support.verdicts import failed

CHAT = "/v1/chat/completions"


def raw(app: App, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    """One request as curl would send it."""
    parts = urlsplit(app.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request(
            method, path, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def error_of(answer: bytes) -> dict[str, str]:
    error = json.loads(answer)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return dict(error)


def test_answers(app: App) -> None:
    assert app.ask() == ANSWER
    assert "".join(app.stream()) == ANSWER
    reply = app.client.completions.create(model="tiny", prompt="hello")
    assert reply.choices[0].text == ANSWER
    assert [model.id for model in app.client.models.list()] == ["tiny", "second", "chat-only"]


def test_usage_comes_only_if_the_app_asks(app: App) -> None:
    messages = [{"role": "user", "content": "hello"}]
    stream = app.client.chat.completions.create(  # type: ignore[call-overload]
        model="tiny", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    usages = [chunk.usage for chunk in stream if chunk.usage]
    assert [(usage.prompt_tokens, usage.completion_tokens) for usage in usages] == [(7, 8)]


def test_events_are_not_held_back(app: App) -> None:
    start = time.monotonic()
    times = [time.monotonic() - start for _ in app.stream("events=10 gap=0.1")]
    # Generous, because a busy machine may stall; an answer that was held back would span no time.
    assert times[-1] - times[0] > 0.5, "the events came at once"


def test_the_app_s_key_goes_nowhere(
    service: NativeService, app: App, hostile: HostileGateway
) -> None:
    app.ask()
    assert "sk-private" not in str(hostile.seen)
    assert "sk-private" not in engine_stats(service)["last"]


def test_nothing_readable_leaves(app: App, hostile: HostileGateway) -> None:
    passed: list[bytes] = []
    hostile.on_answer = lambda _, records: (passed.append(r) or r for r in records)  # type: ignore[func-returns-value]
    list(app.stream("my secret question"))
    sent = hostile.seen[-1]
    wire = sent.body + b"".join(passed) + str(sent.headers).encode()
    assert b"secret" not in wire and b"fake" not in wire and b"engine" not in wire


def test_lengths_say_little(app: App, hostile: HostileGateway) -> None:
    """The next turn of a chat does not tell how long the last answer was."""
    lengths = set()
    for words in range(0, 40, 4):
        app.ask("so " * words)
        lengths.add(len(hostile.seen[-1].body))
    assert len(lengths) <= 2


def test_requests_share_the_client_s_cache_unless_the_app_has_its_own(
    service: NativeService, app: App
) -> None:
    def salt() -> str:
        app.ask()
        return str(json.loads(engine_stats(service)["last"])["cache_salt"])

    first = salt()
    assert salt() == first
    own = app.client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "hello"}],
        extra_body={"cache_salt": "a salt of this app's own, and long"},
    )
    assert own.choices and json.loads(engine_stats(service)["last"])["cache_salt"] != first


def receipts_in(folder: Path) -> set[Path]:
    return set(folder.glob("*/[0-9]*.cbor"))


def test_receipts_are_kept(app: App, receipts: Path, service: NativeService) -> None:
    before = receipts_in(receipts)
    app.ask()
    list(app.stream())
    new = receipts_in(receipts) - before
    assert len(new) == 2
    for path in new:
        kept = read_kept(path)
        assert (kept.statement.model, kept.statement.usage) == ("tiny", Usage(TOKEN, 7, 8))
        assert kept.statement.request_sha256.hex() in path.name
        verify_kept(kept, service.manifest).require()


def test_a_receipt_is_of_the_bytes_that_the_app_got(
    app: App, receipts: Path, service: NativeService
) -> None:
    before = receipts_in(receipts)
    body = b'{"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}'
    status, answer = raw(app, "POST", CHAT, body)
    (new,) = receipts_in(receipts) - before
    assert status == 200
    verify_kept(read_kept(new), service.manifest, answer=answer).require()
    assert failed(verify_kept(read_kept(new), service.manifest, answer=answer + b" ")) == ["answer"]


@pytest.mark.parametrize("stream", [False, True])
def test_no_question_is_sent_whose_receipt_cannot_be_kept(
    app: App, receipts: Path, service: NativeService, stream: bool
) -> None:
    app.ask()
    before = engine_stats(service)["requests"]
    away = receipts.rename(receipts.with_name("away"))
    try:
        with pytest.raises(openai.InternalServerError, match="nothing was sent") as caught:
            list(app.stream()) if stream else app.ask()
        assert (caught.value.status_code, caught.value.code) == (503, "receipt-not-kept")
        assert engine_stats(service)["requests"] == before
    finally:
        away.rename(receipts)


def test_a_receipt_that_can_no_longer_be_kept_cuts_the_stream(app: App, receipts: Path) -> None:
    """The reason is in the stream's last event: the answer is not called whole."""
    stream = app.stream("events=20 gap=0.05")
    next(stream)
    away = receipts.rename(receipts.with_name("away"))
    try:
        with pytest.raises(openai.APIError, match="the receipt cannot be kept") as caught:
            list(stream)
        assert caught.value.code == "receipt-not-kept"
    finally:
        away.rename(receipts)


def test_the_engine_s_own_error_arrives(app: App) -> None:
    with pytest.raises(openai.BadRequestError, match="the engine says no"):
        app.ask("fail")
    with pytest.raises(openai.BadRequestError, match="the engine says no"):
        list(app.stream("fail"))


def test_engine_breaks_in_the_middle_of_a_stream(app: App) -> None:
    with pytest.raises(openai.APIError, match="ended before its answer") as caught:
        list(app.stream("break events=20 gap=0.01"))
    assert caught.value.code == "engine-lost"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad-json"),
        (b"{", "bad-json"),
        (b"[" * 100_000, "too-deep"),
        (b"\xff\xfe", "bad-json"),
        (b"\xef\xbb\xbf{}", "bad-json"),
        (b"[]", "bad-json"),
        (b"{}", "missing-field"),
        (b'{"model": 7}', "bad-field"),
        (b'{"model": "tiny", "temperature": NaN}', "bad-json"),
        (b'{"model": "tiny", "temperature": 1e999}', "bad-field"),
        (b'{"model": "tiny", "stream": "true"}', "bad-field"),
        (b'{"model": "tiny", "chat_template": "x"}', "refused-field"),
    ],
)
def test_malformed_requests(app: App, body: bytes, code: str) -> None:
    status, answer = raw(app, "POST", CHAT, body)
    assert (status, error_of(answer)["code"]) == (400, code)


def test_oversized_body(app: App) -> None:
    with pytest.raises(openai.APIStatusError, match="too large") as caught:
        app.ask("x" * (9 << 20))
    assert caught.value.status_code == 413


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/chat/completions"),
        ("GET", "/"),
        ("DELETE", "/v1/models"),
        ("POST", "/v1/chat/completions/"),
    ],
)
def test_what_is_not_there_is_501(app: App, method: str, path: str) -> None:
    status, answer = raw(app, method, path)
    assert (status, error_of(answer)["code"]) == (501, "not-implemented")


@pytest.mark.parametrize(
    ("model", "path", "status", "code"),
    [
        ("gpt-5", CHAT, 404, "unknown-model"),
        ("../tiny", CHAT, 404, "unknown-model"),
        ("chat-only", "/v1/completions", 400, "unknown-task"),
    ],
)
def test_models_that_are_not_there(app: App, model: str, path: str, status: int, code: str) -> None:
    asked = {"messages": [{"role": "user", "content": "x"}]} if path == CHAT else {"prompt": "x"}
    seen, answer = raw(app, "POST", path, json.dumps({"model": model, **asked}).encode())
    assert (seen, error_of(answer)["code"]) == (status, code)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, "foreign-host"),
        ({"Host": "127.0.0.1.evil.example:8080"}, "foreign-host"),
        ({"Origin": "https://evil.example"}, "foreign-origin"),
        ({"Origin": "null"}, "foreign-origin"),
    ],
)
def test_requests_of_web_pages_are_refused(app: App, headers: dict[str, str], code: str) -> None:
    status, answer = raw(app, "GET", "/v1/models", b"", **headers)
    assert (status, error_of(answer)["code"]) == (403, code)


def test_its_own_origin_is_served(app: App) -> None:
    assert raw(app, "GET", "/v1/models", Origin=app.url)[0] == 200


def wait_for(service: NativeService, counter: str, value: int) -> None:
    deadline = time.monotonic() + 5
    while engine_stats(service)[counter] < value:
        assert time.monotonic() < deadline, f"the engine was left working: {engine_stats(service)}"
        time.sleep(0.05)


def test_client_that_leaves_in_mid_stream_stops_the_engine(
    service: NativeService, direct_app: App
) -> None:
    before = engine_stats(service)["hung_up"]
    stream = direct_app.stream("events=5000 gap=0.02")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    wait_for(service, "hung_up", before + 1)
    assert direct_app.ask() == ANSWER


def test_client_that_leaves_before_the_answer_stops_the_engine(
    service: NativeService, direct_app: App
) -> None:
    before = engine_stats(service)
    body = b'{"model": "tiny", "messages": [{"role": "user", "content": "hang"}]}'
    parts = urlsplit(direct_app.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as sock:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        wait_for(service, "requests", before["requests"] + 1)
    wait_for(service, "hung_up", before["hung_up"] + 1)
    assert direct_app.ask() == ANSWER
