"""A gateway that does what it should not, in front of the booted machines.

The app gets one clear error, and the service keeps serving. What can be done to the records of an
answer is the same table as in the unit tests; here the machines are real.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest
import requests

from confide.commands.system import Build, Program, System
from confide.errors import UnavailableError
from confide.protocol.frames import RECORD_ERROR
from confide.protocol.keyexchange import InferenceKey
from confide.protocol.receipt import Receipt
from confide.protocol.secret_service import KeyExchangeReply
from tests.support.alterations import ALTERATIONS, flip
from tests.support.app import App
from tests.support.hostile_gateway import Exchange, HostileGateway, hostile_gateway
from tests.support.sealed_client import SealedClient

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def hostile_session(gateway: Program) -> Iterator[HostileGateway]:
    with hostile_gateway(gateway.url) as middle:
        yield middle


@pytest.fixture(scope="module")
def receipts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("receipts")


@pytest.fixture(scope="module")
def app_session(system: System, hostile_session: HostileGateway, receipts: Path) -> App:
    return App(system.start_proxy(hostile_session.url, options=["--receipts", str(receipts)]).url)


@pytest.fixture
def hostile(hostile_session: HostileGateway) -> Iterator[HostileGateway]:
    yield from hostile_session.fresh()


@pytest.fixture
def app(app_session: App, hostile: HostileGateway, expected: str) -> Iterator[App]:
    """An app behind the hostile gateway; when that is honest again, the app must get its answer."""
    yield app_session
    hostile.reset()
    assert app_session.ask() == expected


@pytest.mark.parametrize("name", ALTERATIONS)
def test_altered_stream(app: App, hostile: HostileGateway, expected: str, name: str) -> None:
    hostile.on_answer = lambda _, records: ALTERATIONS[name](records)
    words: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        words.extend(app.stream())
    assert str(caught.value)
    assert expected.startswith("".join(words))


def test_altered_request(app: App, hostile: HostileGateway) -> None:
    def alter(exchange: Exchange) -> None:
        exchange.body = flip(exchange.body, len(exchange.body) - 1)

    hostile.on_request = alter
    with pytest.raises(openai.APIStatusError) as caught:
        app.ask()
    assert caught.value.code == "bad-seal"


def test_two_answers_swapped(app: App, hostile: HostileGateway) -> None:
    first: list[bytes] = []

    def keep(records: Iterator[bytes]) -> Iterator[bytes]:
        for record in records:
            first.append(record)
            yield record

    hostile.on_answer = lambda _, records: keep(iter(records))
    app.ask()
    answer = list(first)
    hostile.on_answer = lambda _, records: answer if list(records) else []
    with pytest.raises(openai.APIStatusError) as caught:
        app.ask()
    assert caught.value.code == "bad-frame"


def test_replayed_request_is_not_answered(app: App, hostile: HostileGateway) -> None:
    app.ask()
    answer = hostile.send(hostile.seen[-1])
    assert answer[0] == RECORD_ERROR
    assert b"replay" in answer


def test_sealed_request_under_another_path(app: App, hostile: HostileGateway) -> None:
    def redirect(exchange: Exchange) -> None:
        if exchange.path == CHAT:
            exchange.path = "/v1/completions"

    hostile.on_request = redirect
    with pytest.raises(openai.APIStatusError) as caught:
        app.ask()
    assert caught.value.code == "bad-seal"


def test_key_that_expired_is_replaced_and_the_app_sees_nothing(
    app: App, hostile: HostileGateway, expected: str
) -> None:
    """To the worker, a key that expired and one that nobody ever sent are the same: unknown."""
    paths: list[str] = []

    def forget(exchange: Exchange) -> None:
        if not paths:
            exchange.headers["Confide-Key-Id"] = "00" * 32
        paths.append(exchange.path)

    hostile.on_request = forget
    assert app.ask() == expected
    assert [path for path in paths if path == CHAT] == [CHAT, CHAT]
    assert any(path.endswith("/keys") for path in paths)


def test_worker_posing_as_the_secret_service(
    system: System, app: App, hostile: HostileGateway, receipts: Path
) -> None:
    """A genuine mesh certificate of the wrong role, taken from a receipt."""
    app.ask()
    receipt = next(receipts.glob("*/[0-9]*.cbor"))
    certificate = Receipt.parse(receipt.read_bytes()).certificate

    def pose(exchange: Exchange, message: bytes) -> bytes:
        if not exchange.path.endswith("/key-exchange"):
            return message
        (genuine,) = KeyExchangeReply.parse(message).services
        return KeyExchangeReply((replace(genuine, certificate=certificate),)).encode()

    hostile.on_message = pose
    with pytest.raises(UnavailableError, match="the check 'secret services' failed"):
        system.start_proxy(hostile.url)


def test_recorded_attestation_does_not_convince_another_client(
    system: System, app: App, hostile: HostileGateway
) -> None:
    recorded: list[bytes] = []

    def record(exchange: Exchange, message: bytes) -> bytes:
        if exchange.path.endswith("/attest"):
            recorded.append(message)
            return recorded[0]
        return message

    hostile.on_message = record
    system.start_proxy(hostile.url)
    with pytest.raises(UnavailableError, match="the check 'quote binding' failed"):
        system.start_proxy(hostile.url)


def test_another_manifest_than_the_pinned_one(
    system: System, gateway: Program, tmp_path: Path
) -> None:
    other = tmp_path / "manifest.json"
    other.write_bytes(system.manifest.read_bytes().replace(b'"tiny"', b'"tony"'))
    with pytest.raises(UnavailableError, match="the check 'manifest' failed"):
        system.start_proxy(gateway.url, options=["--manifest", str(other)])


def test_key_for_a_model_that_the_manifest_does_not_name(
    system: System, build: Build, gateway: Program
) -> None:
    """The secret service does not take it, so a worker that is sent its id gets nothing."""
    client = SealedClient(gateway.url, system.manifest.read_bytes())
    key = InferenceKey(bytes(range(32)), "another", int(time.time()))
    assert client.upload(key).json()["error"]["code"] == "unknown-model"
    answer = client.post(CHAT, build.model_name, b"{}", key)
    assert answer[0] == RECORD_ERROR
    assert b"unknown-key" in answer


def test_garbage_at_every_door(system: System, gateway: Program) -> None:
    """A named 4xx at every door, and behind it everything still serves."""
    doors = {
        system.machine("coordinator").url: ("/v1/attest", "/v1/manifest", "/v1/join"),
        system.machine("secret-service").url: ("/v1/keys",),
        system.machine("worker-cpu").url: (CHAT, "/v1/completions"),
        gateway.url: ("/confide/v1/attest", "/confide/v1/keys", CHAT),
    }
    for url, paths in doors.items():
        for path in paths:
            for body in (b"\x00", b"\xff" * 100, b"{}", b"\xa1\x61a\x9f" * 50):
                reply = requests.post(url + path, data=body, timeout=60)
                assert 400 <= reply.status_code < 500, (url, path, body, reply.status_code)
                assert reply.json()["error"]["code"], (path, body)
        assert requests.get(f"{url}/healthz", timeout=30).status_code == 200
