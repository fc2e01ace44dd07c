"""What a gateway may try with sealed bytes: each is one clear error, never a wrong answer."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import openai
import pytest

from confide.protocol.frames import RECORD_ERROR
from tests.support.alterations import ALTERATIONS, dropped_final, flip
from tests.support.app import ANSWER, App
from tests.support.hostile_gateway import Exchange, HostileGateway

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
    [("Confide-Model", "second"), ("Confide-Version", "2"), ("Content-Type", "text/plain")],
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


def test_unknown_key_is_replaced_once_and_the_app_sees_nothing(
    app: App, hostile: HostileGateway
) -> None:
    def forget(exchange: Exchange) -> None:
        if exchange.path == "/v1/chat/completions" and len(hostile.seen) == 0:
            exchange.headers["Confide-Key-Id"] = "00" * 32

    hostile.on_request = forget
    assert app.ask() == ANSWER
    assert [exchange.path for exchange in hostile.seen] == [
        "/v1/chat/completions",
        "/confide/v1/attest",
        "/confide/v1/key-exchange",
        "/confide/v1/keys",
        "/v1/chat/completions",
    ]


def test_a_key_that_stays_unknown_is_one_error(app: App, hostile: HostileGateway) -> None:
    def forget(exchange: Exchange) -> None:
        if exchange.path == "/v1/chat/completions":
            exchange.headers["Confide-Key-Id"] = "00" * 32

    hostile.on_request = forget
    with pytest.raises(openai.APIStatusError) as caught:
        app.ask()
    assert caught.value.code == "unknown-key"
    assert sum(exchange.path == "/v1/chat/completions" for exchange in hostile.seen) == 2
