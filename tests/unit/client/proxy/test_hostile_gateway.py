"""What a gateway may try with sealed bytes: each is one clear error, never a wrong answer."""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import openai
import pytest

from confide.client.proxy.keys import REPLACE_SECONDS
from confide.protocol.frames import RECORD_ERROR
from tests.support.alterations import ALTERATIONS, dropped_final, flip
from tests.support.app import ANSWER, App
from tests.support.hostile_gateway import Exchange, HostileGateway

CHAT = "/v1/chat/completions"
ORDERS = "events=12 gap=0.005"


@pytest.mark.parametrize("name", ALTERATIONS)
def test_altered_stream(app: App, hostile: HostileGateway, name: str) -> None:
    hostile.on_answer = lambda _, records: ALTERATIONS[name](records)
    words: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        words.extend(app.stream(ORDERS))
    assert caught.value.code and str(caught.value)
    # Whatever came before the error is a true beginning.
    assert (ANSWER * 2).startswith("".join(words))


@pytest.mark.parametrize("name", ALTERATIONS)
def test_altered_whole_answer(app: App, hostile: HostileGateway, name: str) -> None:
    hostile.on_answer = lambda _, records: ALTERATIONS[name](records)
    with pytest.raises(openai.APIStatusError) as caught:
        app.ask()
    assert caught.value.status_code == 502
    assert caught.value.code


def test_the_end_is_held_back_until_the_receipt(app: App, hostile: HostileGateway) -> None:
    """All words arrived, but nothing vouched for them: the stream must not look finished."""
    hostile.on_answer = lambda _, records: dropped_final(records)
    words: list[str] = []
    with pytest.raises(openai.APIError, match="final frame"):
        words.extend(app.stream())
    assert "".join(words) == ANSWER


def test_a_broken_stream_does_not_look_finished_to_any_client(
    app: App, hostile: HostileGateway
) -> None:
    """For clients that know no error event: the transfer itself is cut, too."""
    hostile.on_answer = lambda _, records: dropped_final(records)
    parts = urlsplit(app.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    body = {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    connection.request("POST", "/v1/chat/completions", body=json.dumps(body))
    with pytest.raises(http.client.IncompleteRead) as caught:
        connection.getresponse().read()
    connection.close()
    received = caught.value.partial
    assert b"[DONE]" not in received
    (error,) = [line for line in received.splitlines() if b'"error"' in line]
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "truncated"


def test_altered_request(app: App, hostile: HostileGateway) -> None:
    def alter(exchange: Exchange) -> None:
        exchange.body = flip(exchange.body, len(exchange.body) - 1)

    hostile.on_request = alter
    with pytest.raises(openai.APIStatusError, match="changed on the way") as caught:
        app.ask()
    assert (caught.value.status_code, caught.value.code) == (502, "bad-seal")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Confide-Model", "second"),
        ("Confide-Version", "1"),
        ("Content-Type", "text/plain"),
        ("Confide-Manifest", "00" * 32),
        ("Confide-Worker", "00" * 32),
    ],
)
def test_altered_header(app: App, hostile: HostileGateway, header: str, value: str) -> None:
    hostile.on_request = lambda exchange: exchange.headers.update({header: value})
    with pytest.raises(openai.APIStatusError):
        app.ask()


def test_another_path(app: App, hostile: HostileGateway) -> None:
    def redirect(exchange: Exchange) -> None:
        exchange.path = "/v1/completions"

    hostile.on_request = redirect
    with pytest.raises(openai.APIStatusError) as caught:
        app.ask()
    assert caught.value.code == "bad-seal"


def test_swapped_answers(app: App, hostile: HostileGateway) -> None:
    first: list[bytes] = []
    hostile.on_answer = lambda _, records: (first.append(r) or r for r in records)  # type: ignore[func-returns-value]
    app.ask("one")
    answer = list(first)
    hostile.on_answer = lambda _, records: [list(records)[0:0] and b"", *answer]  # type: ignore[list-item]
    with pytest.raises(openai.APIStatusError) as caught:
        app.ask("two")
    assert caught.value.code == "bad-frame"


def test_spliced_answers(app: App, hostile: HostileGateway) -> None:
    """The beginning of one answer, the end of another one to the same question."""
    first: list[bytes] = []
    hostile.on_answer = lambda _, records: (first.append(r) or r for r in records)  # type: ignore[func-returns-value]
    list(app.stream(ORDERS))

    def splice(records: Iterable[bytes]) -> Iterator[bytes]:
        for number, record in enumerate(records):
            yield record if number < 4 else first[min(number, len(first) - 1)]

    hostile.on_answer = lambda _, records: splice(records)
    with pytest.raises(openai.APIError) as caught:
        list(app.stream(ORDERS))
    assert caught.value.code == "bad-frame"


def test_replayed_request(app: App, hostile: HostileGateway) -> None:
    app.ask()
    answer = hostile.send(hostile.seen[-1])
    assert answer[0] == RECORD_ERROR and b"replay" in answer


def test_unknown_key_is_replaced_and_the_app_sees_nothing(
    app: App, hostile: HostileGateway, key_may_be_replaced: None
) -> None:
    """Secret services were started anew: one new key, and no new verification."""

    def forget(exchange: Exchange) -> None:
        if exchange.path == CHAT and len(hostile.seen) == 0:
            exchange.headers["Confide-Key-Id"] = "00" * 32

    hostile.on_request = forget
    assert app.ask() == ANSWER
    assert [exchange.path for exchange in hostile.seen] == [
        CHAT, "/confide/v1/key-exchange", "/confide/v1/keys", CHAT,
    ]  # fmt: skip


def test_forged_unknown_key_costs_no_handshake(
    app: App, hostile: HostileGateway, key_may_be_replaced: None
) -> None:
    """Anybody on the way can say it. It must not cost an attestation, and a quote, each time."""

    def forget(exchange: Exchange) -> None:
        if exchange.path == CHAT:
            exchange.headers["Confide-Key-Id"] = "00" * 32

    hostile.on_request = forget
    for _ in range(8):
        with pytest.raises(openai.APIStatusError) as caught:
            app.ask()
        assert caught.value.code == "unknown-key"
    paths = Counter(exchange.path for exchange in hostile.seen)
    assert paths["/confide/v1/attest"] == 0
    assert paths["/confide/v1/keys"] == paths["/confide/v1/key-exchange"] == 1
    assert paths[CHAT] == 9


@pytest.fixture
def key_may_be_replaced(app: App) -> None:
    """A key was replaced 10 s ago or never."""
    time.sleep(REPLACE_SECONDS)
