"""Events, chunks and token counts, in portions of any size."""

from __future__ import annotations

import json

import pytest

from confide.errors import FormatError, VerificationError
from confide.guest.worker.completion import CompletionRequest, TokenCounts
from confide.net import sse
from confide.net.chunked import Dechunker
from confide.protocol.routes.table import SEALED
from confide.protocol.usage import TOKEN, Usage

EVENTS = b'data: {"a": 1}\n\n: comment\n\ndata: {"b": "\\n\\n"}\r\n\r\ndata: [DONE]\n\n'


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
def test_events_leave_whole(size: int) -> None:
    buffer = sse.EventBuffer()
    out = [buffer.feed(EVENTS[at : at + size]) for at in range(0, len(EVENTS), size)]
    assert b"".join(out) + buffer.rest == EVENTS
    assert buffer.rest == b""
    assert all(not piece or piece.endswith((b"\n\n", b"\n\r\n")) for piece in out)


def test_an_event_leaves_with_its_last_byte() -> None:
    buffer = sse.EventBuffer()
    assert buffer.feed(b"data: 1\n\ndata: 2\n") == b"data: 1\n\n"
    assert buffer.feed(b"\n") == b"data: 2\n\n"


def test_an_event_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT", 100)
    buffer = sse.EventBuffer()
    with pytest.raises(FormatError, match="too large"):
        for _ in range(101):
            buffer.feed(b"x")


def test_split_gives_every_byte_back() -> None:
    parts = sse.split(EVENTS)
    assert b"".join(parts) == EVENTS
    assert len(parts) == 4


@pytest.mark.parametrize(
    ("events", "end"),
    [
        (b"data: 1\n\ndata: [DONE]\n\n", 9),
        (b"data: 1\n\ndata:[DONE]\n\n", 9),
        (b"data: [DONE]\n\n", 0),
        (b'data: {"c": "data: [DONE]"}\n\n', 29),
        (b"data: 1\n\n", 9),
        (b"", 0),
    ],
)
def test_the_end_of_a_stream(events: bytes, end: int) -> None:
    assert sse.before_done(events) == end


def test_error_events_are_what_clients_raise() -> None:
    event = sse.error_event({"message": "a\n\nb", "code": "x"})
    assert sse.split(event) == [event]
    assert sse.payload(event) == {"error": {"message": "a\n\nb", "code": "x"}}


def encode(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 17, 1000])
def test_chunks_in_portions(size: int) -> None:
    wire = encode(b"one", b"x" * 300, b"\r\n\r\n")
    dechunker = Dechunker()
    out = b"".join(dechunker.feed(wire[at : at + size]) for at in range(0, len(wire), size))
    assert out == b"one" + b"x" * 300 + b"\r\n\r\n"
    assert dechunker.done


def test_chunks_that_arrived_together_leave_together() -> None:
    assert Dechunker().feed(encode(b"a", b"b", b"c")) == b"abc"


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"x\r\n",
        b"\r\n",
        b"-1\r\n",
        b"+1\r\na\r\n",
        b"1_0\r\n",
        b" 1\r\na\r\n",
        b"1;a=b\r\nx\r\n",
        b"123456789\r\n",
        b"1" * 17,
        b"1\r\nab\r\n",
        b"1\r\na\rb",
        b"0\r\nTrailer: x\r\n\r\n",
        b"0\r\n\r\nmore",
    ],
)
def test_chunks_that_are_none(wire: bytes) -> None:
    with pytest.raises(ValueError, match="chunk"):
        Dechunker().feed(wire)


@pytest.mark.parametrize("cut", range(1, len(encode(b"one", b"two"))))
def test_a_cut_chunked_body(cut: int) -> None:
    dechunker = Dechunker()
    dechunker.feed(encode(b"one", b"two")[:cut])
    assert not dechunker.done
    with pytest.raises(ValueError, match="ended"):
        dechunker.feed(b"")


def request(**fields: object) -> CompletionRequest:
    body = json.dumps({"model": "tiny", "messages": [HELLO], **fields}).encode()
    return CompletionRequest(
        ROUTE, body, model="tiny", max_model_len=None, cache_salt=lambda chosen: f"salt {chosen}"
    )


def test_the_engine_gets_what_was_parsed() -> None:
    fields = {"temperature": 0.1, "stop": ["\u00fc"], "user": "somebody", "seed": None}
    assert (
        request(**fields).body
        == (
            '{"model":"tiny","messages":[{"role":"user","content":"hello"}],'
            '"temperature":0.1,"stop":["\u00fc"],"cache_salt":"salt None"}'
        ).encode()
    )


USAGE_ONCE = {"include_usage": True}


@pytest.mark.parametrize(
    ("fields", "streams", "hides", "asked"),
    [
        ({}, False, False, None),
        ({"stream": False}, False, False, None),
        ({"stream": None}, False, False, None),
        ({"stream": True}, True, True, USAGE_ONCE),
        ({"stream": True, "stream_options": None}, True, True, USAGE_ONCE),
        ({"stream": True, "stream_options": {"include_usage": False}}, True, True, USAGE_ONCE),
        # Without include_usage an engine ignores it. The worker's own must not wake it.
        (
            {"stream": True, "stream_options": {"continuous_usage_stats": True}},
            True,
            True,
            USAGE_ONCE,
        ),
        ({"stream": True, "stream_options": USAGE_ONCE}, True, False, USAGE_ONCE),
        (
            {"stream": True, "stream_options": {**USAGE_ONCE, "continuous_usage_stats": True}},
            True,
            False,
            {**USAGE_ONCE, "continuous_usage_stats": True},
        ),
    ],
)
def test_usage_is_always_asked_of_the_engine(
    fields: dict[str, object], streams: bool, hides: bool, asked: object
) -> None:
    given = request(**fields)
    assert (given.streams, given.hides_usage) == (streams, hides)
    assert json.loads(given.body).get("stream_options") == asked


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}\n\n'
WORD = b'data: {"choices": [{"delta": {"content": "\\"usage\\""}}]}\n\n'
BOUNDS = Usage(TOKEN, 1000, 100)
ROUTE = SEALED["/v1/chat/completions"]
HELLO = {"role": "user", "content": "hello"}
NOTHING = Usage(TOKEN, 0, 0)


def counter(*, shows_cached: bool = False) -> TokenCounts:
    return TokenCounts(ROUTE, BOUNDS, shows_cached=shows_cached)


def test_the_usage_event_is_hidden_and_nothing_else() -> None:
    counts = counter()
    assert counts.read_events(WORD + USAGE + WORD, hide=True) == WORD + WORD
    assert counts.usage == Usage(TOKEN, 3, 4)
    assert counts.read_events(WORD + USAGE, hide=False) == WORD + USAGE


END = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
PRINTED = USAGE.replace(b"}\n", b', "system_fingerprint": "vllm-1"}\n')
DONE = b"data: [DONE]\n\n"


def test_the_last_event_keeps_the_fingerprint_of_the_hidden_one() -> None:
    stamped = END.replace(b"}\n", b', "system_fingerprint": "vllm-1"}\n')
    counts = counter()
    parts = [WORD, END, PRINTED, DONE]
    assert [counts.read_events(part, hide=True) for part in parts] == [WORD, b"", stamped, DONE]
    assert counter().read_events(b"".join(parts), hide=True) == WORD + stamped + DONE
    assert counts.usage == Usage(TOKEN, 3, 4)


def test_the_last_event_is_held_no_longer_than_until_the_next() -> None:
    counts = counter()
    parts = [END, END, USAGE, DONE]
    assert [counts.read_events(part, hide=True) for part in parts] == [b"", END, END, DONE]
    assert counts.read_events(END, hide=True) == counts.read_events(b"", hide=True) == b""
    assert (counts.rest(), counts.rest()) == (END, b"")
    assert counter().read_events(END + PRINTED, hide=False) == END + PRINTED


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"usage": null}', b'{"usage": {"prompt_tokens": "7"}}', b"[" * 50_000],
)
def test_counts_that_are_none(body: bytes) -> None:
    counts = counter()
    assert counts.read_body(body) == body
    assert counts.usage == NOTHING


@pytest.mark.parametrize("value", [-1, True, 1.5, 2**60, "1", None])
def test_counts_that_are_no_numbers(value: object) -> None:
    counts = counter()
    usage = {"usage": {"prompt_tokens": value, "completion_tokens": 1}}
    counts.read_body(json.dumps(usage).encode())
    assert counts.usage == Usage(TOKEN, 0, 1)


@pytest.mark.parametrize("counted", [(1001, 1), (1, 101), (2**52, 2**52)])
def test_counts_that_the_request_does_not_allow(counted: tuple[int, int]) -> None:
    """An engine that was taken over writes a prompt into its counts, which leave in the clear."""
    for step in ("whole", "events"):
        counts = counter()
        counts.read_events(USAGE, hide=False)
        usage = json.dumps(
            {"usage": dict(zip(("prompt_tokens", "completion_tokens"), counted, strict=True))}
        ).encode()
        with pytest.raises(VerificationError) as caught:
            if step == "whole":
                counts.read_body(usage)
            else:
                counts.read_events(b"data: " + usage + b"\n\n", hide=False)
        assert caught.value.code == "bad-usage"
        assert counts.usage == NOTHING


CACHED: dict[str, object] = {
    "choices": [],
    "usage": {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "prompt_tokens_details": {"created_cache_tokens": 1, "cached_tokens": 2, "audio_tokens": 0},
    },
}


@pytest.mark.parametrize("shows", [True, False])
def test_cached_tokens(shows: bool) -> None:
    body = json.dumps(CACHED).encode()
    event = b"data: " + body + b"\n\n"
    whole = counter(shows_cached=shows).read_body(body)
    streamed = counter(shows_cached=shows).read_events(WORD + event + WORD, hide=False)
    if shows:
        assert (whole, streamed) == (body, WORD + event + WORD)
    else:
        assert b"cache" not in whole + streamed
        details = json.loads(whole)["usage"]["prompt_tokens_details"]
        assert details == {"audio_tokens": 0}
        assert streamed.startswith(WORD) and streamed.endswith(WORD)
        assert json.loads(sse.split(streamed)[1][5:]) == json.loads(whole)


@pytest.mark.parametrize(
    ("salt", "shows"),
    [(None, False), ("shared:" + "0" * 64, False), ("a secret of one user alone, long", True)],
)
def test_who_may_see_cached_tokens(salt: str | None, shows: bool) -> None:
    assert request(cache_salt=salt).shows_cached == shows
    assert not request().shows_cached
