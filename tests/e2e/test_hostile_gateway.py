"""A gateway that does what it should not: the app gets one clear error, and the service keeps serving."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import requests
from confide.formats.secrets import KeyExchangeReply
from confide.runner.system import Build, Program, System
from client import SealedClient
from hostile import Exchange, HostileGateway, hostile_gateway

MESSAGES = [{"role": "user", "content": "Who can read this?"}]
CHAT = "/v1/chat/completions"


@pytest.fixture
def hostile(gateway: Program) -> Iterator[HostileGateway]:
    with hostile_gateway(gateway.url) as middle:
        yield middle


def client_of(proxy: Program) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="unused", max_retries=0, timeout=120)


def ask(proxy: Program, build: Build) -> str:
    reply = client_of(proxy).chat.completions.create(model=build.model_name, messages=MESSAGES)  # type: ignore[call-overload]
    return str(reply.choices[0].message.content)


def records(answer: bytes) -> list[bytes]:
    """The outer records of a sealed response (docs/protocol.md)."""
    found = []
    while answer:
        end = 5 + int(struct.unpack_from(">I", answer, 1)[0])
        found.append(answer[:end])
        answer = answer[end:]
    return found


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def swap_data_frames(answer: bytes) -> bytes:
    parts = records(answer)
    parts[1], parts[2] = parts[2], parts[1]
    return b"".join(parts)


ALTERATIONS = {
    "a flipped bit in a frame": lambda answer: flip(answer, len(answer) // 2),
    "two frames swapped": swap_data_frames,
    "the last frame dropped": lambda answer: b"".join(records(answer)[:-1]),
    "cut in the middle of a frame": lambda answer: answer[:-7],
    "something after the last frame": lambda answer: answer + records(answer)[-1],
    "nothing at all": lambda answer: b"",
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_altered_answers(
    system: System, build: Build, hostile: HostileGateway, alteration: str
) -> None:
    proxy = system.start_proxy(hostile.url)
    assert ask(proxy, build)

    def alter(exchange: Exchange) -> bytes:
        change = ALTERATIONS[alteration]
        return change(exchange.answer) if exchange.path == CHAT else exchange.answer

    hostile.on_answer = alter
    with pytest.raises(openai.APIError) as caught:
        ask(proxy, build)
    assert str(caught.value)
    hostile.on_answer = lambda exchange: exchange.answer
    assert ask(proxy, build)


def test_altered_request(system: System, build: Build, hostile: HostileGateway) -> None:
    proxy = system.start_proxy(hostile.url)
    hostile.on_request = lambda e: flip(e.body, len(e.body) - 20) if e.path == CHAT else e.body
    with pytest.raises(openai.APIError):
        ask(proxy, build)
    hostile.on_request = lambda e: e.body
    assert ask(proxy, build)


def test_two_answers_swapped(system: System, build: Build, hostile: HostileGateway) -> None:
    proxy = system.start_proxy(hostile.url)
    assert ask(proxy, build)
    first = hostile.seen[-1].answer
    hostile.on_answer = lambda e: first if e.path == CHAT else e.answer
    with pytest.raises(openai.APIError):
        ask(proxy, build)


def test_replayed_request_is_not_answered(
    system: System, build: Build, hostile: HostileGateway
) -> None:
    proxy = system.start_proxy(hostile.url)
    assert ask(proxy, build)
    replayed = hostile.forward(hostile.seen[-1]).content
    assert replayed[0] == 3, "a replay gets a clear error record and nothing sealed"
    assert b"replay" in replayed
    assert ask(proxy, build)


def test_request_for_another_path_or_model(
    system: System, build: Build, hostile: HostileGateway
) -> None:
    """What stays readable is bound too: the same sealed body under another path does not open."""
    proxy = system.start_proxy(hostile.url)
    held: list[Exchange] = []

    def hold(exchange: Exchange) -> bytes:
        if exchange.path == CHAT:
            held.append(Exchange("/v1/completions", dict(exchange.headers), exchange.body))
            return b""
        return exchange.body

    hostile.on_request = hold
    with pytest.raises(openai.APIError):
        ask(proxy, build)
    assert hostile.forward(held[0]).content[0] == 3


def test_unknown_key_is_exchanged_anew_and_retried_once(
    system: System, build: Build, hostile: HostileGateway
) -> None:
    """The worker cannot know the key: the proxy makes a new one and the app sees nothing of it."""
    proxy = system.start_proxy(hostile.url)
    assert ask(proxy, build)
    failed: list[Exchange] = []

    def forget_once(exchange: Exchange) -> bytes:
        if exchange.path == CHAT and not failed:
            failed.append(exchange)
            name = next(k for k in exchange.headers if k.lower() == "confide-key-id")
            exchange.headers[name] = "00" * 32
        return exchange.body

    hostile.on_request = forget_once
    assert ask(proxy, build)
    assert failed
    assert any(e.path.endswith("/keys") for e in hostile.seen[1:])


def test_worker_posing_as_the_secret_service(
    system: System, build: Build, hostile: HostileGateway, tmp_path: Path
) -> None:
    """A genuine mesh certificate of the wrong role, with the attacker's own key beside it."""
    from confide.formats.receipt import Receipt

    proxy = system.start_proxy(hostile.url, options=["--receipts", str(tmp_path)])
    assert ask(proxy, build)
    stored = next(tmp_path.iterdir()).read_bytes()
    worker_certificate = Receipt.parse(stored).certificate

    def pose(exchange: Exchange) -> bytes:
        if not exchange.path.endswith("/key-exchange"):
            return exchange.answer
        genuine = KeyExchangeReply.parse(exchange.answer)
        return KeyExchangeReply(
            worker_certificate, genuine.mesh_ca, genuine.root_ca, genuine.kem_public_key
        ).encode()

    hostile.on_answer = pose
    with pytest.raises(Exception, match="role") as caught:
        system.start_proxy(hostile.url)
    assert "secret-service" in str(caught.value)


def test_stale_attestation_is_refused(
    system: System, build: Build, hostile: HostileGateway
) -> None:
    """An attestation recorded for one proxy does not convince another: the nonce is fresh."""
    system.start_proxy(hostile.url)
    recorded = next(e.answer for e in hostile.seen if e.path.endswith("/attest"))
    hostile.on_answer = lambda e: recorded if e.path.endswith("/attest") else e.answer
    with pytest.raises(Exception, match="nonce"):
        system.start_proxy(hostile.url)


def test_another_manifest_than_the_pinned_one(
    system: System, build: Build, gateway: Program, tmp_path: Path
) -> None:
    other = tmp_path / "manifest.json"
    other.write_bytes(build.manifest.read_bytes().replace(b'"tiny"', b'"tony"'))
    with pytest.raises(Exception, match="manifest"):
        system.start_proxy(gateway.url, options=["--manifest", str(other)])


def test_key_for_another_model_is_refused(system: System, build: Build, gateway: Program) -> None:
    """The secret service gives a key only for the models that the key allows."""
    client = SealedClient(gateway.url, build.manifest.read_bytes(), key_models=("another-model",))
    answer = client.post(CHAT, build.model_name, b'{"model": "tiny", "messages": []}')
    assert answer[0] == 3
    assert b"not-allowed" in answer or b"unknown-key" in answer


def test_garbage_at_every_door(system: System, gateway: Program) -> None:
    """Garbage gets a 4xx with a named error everywhere, and everything still answers."""
    doors = [
        (system.machine("coordinator").url, ("/v1/attest", "/v1/manifest", "/v1/challenge", "/v1/join")),
        (system.machine("secret-service").url, ("/v1/keys",)),
        (system.machine("worker-cpu").url, (CHAT, "/v1/completions")),
        (gateway.url, ("/confide/v1/attest", "/confide/v1/keys", CHAT)),
    ]
    for url, paths in doors:
        for path in paths:
            for body in (b"", b"\x00", b"\xff" * 100, b"{}", b"\xa1\x61a\x9f" * 50):
                reply = requests.post(url + path, data=body, timeout=60)
                assert 400 <= reply.status_code < 500, (url, path, body, reply.status_code)
                assert reply.json()["error"]["code"], (path, body)
        assert requests.get(f"{url}/healthz", timeout=30).status_code == 200

