"""The frames of a sealed answer, and all that somebody in the middle could do to them."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.encoding.canonical import cbor_encode
from confide.errors import ConfideError, FormatError, PolicyError, VerificationError
from confide.protocol import frames
from confide.protocol.bill import Bill
from confide.protocol.frames import (
    BUCKET,
    MAX_CONTENT,
    MAX_PAYLOAD,
    ClearError,
    Data,
    Final,
    Head,
    Wait,
    clear_error,
)
from confide.protocol.padding import padme
from tests.support.sealed_pair import USAGE, exchange, pair, read, records, response


@pytest.mark.parametrize("step", [1, 7, 533, 1 << 30])
def test_response_round_trip(step: int) -> None:
    sealer, opener = pair()
    events = read(opener, b"".join(response(sealer)), step)
    assert events == [
        Head(200, "text/event-stream"), Data(b"one"), Data(b"two"), USAGE, Final(b"receipt"),
    ]  # fmt: skip
    assert opener.response_sha256 == sealer.response_sha256


@given(st.lists(st.binary(max_size=1500), max_size=5), st.integers(1, 3000))
def test_any_chunks_in_any_portions(chunks: list[bytes], step: int) -> None:
    sealer, opener = pair()
    stream = sealer.head(200, "a/b") + b"".join(map(sealer.data, chunks)) + sealer.final(b"")
    events = read(opener, stream, step)
    assert [event.chunk for event in events if isinstance(event, Data)] == chunks
    assert opener.response_sha256 == sealer.response_sha256


@pytest.mark.parametrize("size", [0, 1, BUCKET - 5, BUCKET - 4, 2 * BUCKET - 5, 2 * BUCKET - 4])
def test_frames_fill_buckets(size: int) -> None:
    sealer, _ = pair()
    sealer.head(200, "a/b")
    frame = sealer.data(bytes(size))
    assert len(frame) == 5 + -(-(5 + size) // BUCKET) * BUCKET + 16


def test_a_token_and_a_longer_token_look_alike() -> None:
    sealer, _ = pair()
    sealer.head(200, "a/b")
    assert len(sealer.data(b"a")) == len(sealer.data(b"incomprehensibilities"))


def test_large_chunks_are_split() -> None:
    sealer, opener = pair()
    body = os.urandom(2 * MAX_CONTENT + 1)
    cut = records(sealer.head(200, "a/b") + sealer.data(body) + sealer.final(b""))
    assert max(len(record) for record in cut) <= 5 + MAX_PAYLOAD
    events = read(opener, b"".join(cut))
    assert b"".join(event.chunk for event in events if isinstance(event, Data)) == body


def test_a_frame_leaves_when_it_comes() -> None:
    sealer, opener = pair()
    opener.feed(sealer.head(200, "a/b"))
    assert opener.feed(sealer.data(b"now")) == [Data(b"now")]


def test_two_answers_to_one_request_share_no_key_stream() -> None:
    """A gateway replays one request to two workers: same frame, same number, other bytes."""
    _, request = exchange()
    one, two = request.response_sealer(), request.response_sealer()
    first, second = records(one.head(200, "a/b")), records(two.head(200, "a/b"))
    assert first[0] != second[0]
    a, b = first[1][5:], second[1][5:]
    assert bytes(x ^ y for x, y in zip(a[:-16], b[:-16], strict=True)) != bytes(len(a) - 16)


def test_truncation_anywhere() -> None:
    client, request = exchange()
    cut = response(request.response_sealer())
    whole = b"".join(cut)
    ends = {sum(map(len, cut[:n])) for n in range(len(cut))} | set(range(0, len(whole), 101))
    for end in ends - {len(whole)}:
        fresh = client.response_opener()
        fresh.feed(whole[:end])
        with pytest.raises(VerificationError) as error:
            fresh.finish()
        assert error.value.code == "truncated"


def test_an_empty_response_is_truncated() -> None:
    with pytest.raises(VerificationError, match="ended before"):
        pair()[1].finish()


@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_a_lost_record(lost: int) -> None:
    sealer, opener = pair()
    cut = response(sealer)
    del cut[lost]
    with pytest.raises((VerificationError, FormatError)):
        read(opener, b"".join(cut))


@pytest.mark.parametrize(("one", "two"), [(0, 1), (1, 2), (2, 3), (1, 5), (3, 5)])
def test_swapped_records(one: int, two: int) -> None:
    sealer, opener = pair()
    cut = response(sealer)
    cut[one], cut[two] = cut[two], cut[one]
    with pytest.raises((VerificationError, FormatError)):
        read(opener, b"".join(cut))


@pytest.mark.parametrize("which", [0, 1, 2, 3, 4])
def test_a_repeated_record(which: int) -> None:
    sealer, opener = pair()
    cut = response(sealer)
    cut.insert(which, cut[which])
    with pytest.raises((VerificationError, FormatError)):
        read(opener, b"".join(cut))


def test_every_flipped_bit_of_a_sealed_frame() -> None:
    client, request = exchange()
    sealer = request.response_sealer()
    head, frame = sealer.head(200, "a/b"), sealer.data(b"one")
    for at in [*range(5, 40), *range(40, len(frame), 11), len(frame) - 1]:
        opener = client.response_opener()
        opener.feed(head)
        with pytest.raises(VerificationError) as error:
            opener.feed(frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :])
        assert error.value.code == "bad-frame"


def test_swapped_responses() -> None:
    """The gateway gives the answer to one request to the client of another."""
    (sealer_a, opener_a), (sealer_b, opener_b) = pair(), pair()
    a, b = b"".join(response(sealer_a)), b"".join(response(sealer_b))
    for opener, stream in ((opener_a, b), (opener_b, a)):
        with pytest.raises(VerificationError) as error:
            opener.feed(stream)
        assert error.value.code == "bad-frame"


def test_spliced_responses() -> None:
    """Two answers to the same request, both authentic, mixed."""
    sealer, request = exchange()
    one, two = response(request.response_sealer()), response(request.response_sealer())
    for at in range(1, len(one)):
        with pytest.raises((VerificationError, FormatError)):
            read(sealer.response_opener(), b"".join(one[:at] + two[at:]))
    read(sealer.response_opener(), b"".join(one))
    read(sealer.response_opener(), b"".join(two))


@pytest.mark.parametrize("tail", [b"\0", b"\x01\x00\x00\x00\x00", bytes(600), b"\xff" * 9])
def test_trailing_bytes(tail: bytes) -> None:
    sealer, opener = pair()
    stream = b"".join(response(sealer))
    with pytest.raises(ConfideError):
        opener.feed(stream + tail)
    sealer, opener = pair()
    opener.feed(b"".join(response(sealer)))
    with pytest.raises(ConfideError):
        opener.feed(tail)
    with pytest.raises(VerificationError):
        opener.finish()


def test_a_broken_opener_stays_broken() -> None:
    sealer, opener = pair()
    cut = response(sealer)
    opener.feed(cut[0] + cut[1])
    with pytest.raises(VerificationError):
        opener.feed(cut[3])
    for good in (cut[2], b""):
        with pytest.raises(VerificationError, match="failed already"):
            opener.feed(good)
    with pytest.raises(VerificationError):
        opener.finish()


@pytest.mark.parametrize(
    "stream",
    [
        b"\x00\x00\x00\x00\x00",
        b"\x01\x00\x00\x00\x00",
        b"\x05\x00\x00\x00\x00",
        b"\x06\x00\x00\x00\x00",
        b"\x04\x00\x00\x00\x1f" + bytes(31),
        b"\x04\x00\x00\x00\x21" + bytes(33),
        b"\x01\xff\xff\xff\xff",
        b"\x04\x00\x10\x00\x01",
        b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
        b'{"error": "no"}',
        b"\x02\x00\x00\x00\x01\xa0",
        b"\x03\x00\x00\x00\x01\xa0",
        b"\x03\x00\x00\x00\x01\xff",
    ],
)
def test_what_is_no_response(stream: bytes) -> None:
    with pytest.raises(FormatError):
        pair()[1].feed(stream)


def test_usage_only_after_the_head_and_once() -> None:
    sealer, opener = pair()
    start = records(sealer.head(200, "a/b"))[0]
    usage = sealer.usage(USAGE)
    opener.feed(start)
    with pytest.raises(FormatError):
        opener.feed(usage)
    sealer, opener = pair()
    opener.feed(sealer.head(200, "a/b"))
    assert opener.feed(usage) == [USAGE]
    with pytest.raises(FormatError):
        opener.feed(usage)


@pytest.mark.parametrize(
    "usage",
    [{}, {"unit": "token", "input": -1, "output": 0}, []],
)
def test_malformed_usage(usage: Any) -> None:
    sealer, opener = pair()
    payload = cbor_encode(usage)
    record = b"\x02" + struct.pack(">I", len(payload)) + payload
    with pytest.raises(FormatError):
        opener.feed(sealer.head(200, "a/b") + record)


def test_wait_frames_anywhere_before_the_end() -> None:
    sealer, opener = pair()
    stream = sealer.wait() + sealer.wait() + sealer.head(200, "a/b") + sealer.wait()
    stream += sealer.data(b"one") + sealer.wait() + sealer.final(b"receipt")
    events = read(opener, stream)
    assert events == [
        Wait(), Wait(), Head(200, "a/b"), Wait(), Data(b"one"), Wait(), Final(b"receipt"),
    ]  # fmt: skip
    with pytest.raises(RuntimeError):
        sealer.wait()


def test_a_wait_frame_looks_like_a_token() -> None:
    sealer, _ = pair()
    sealer.head(200, "a/b")
    assert len(sealer.wait()) == len(sealer.data(b"token"))


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 3000, MAX_CONTENT, MAX_CONTENT + 1])
def test_whole_answers(size: int) -> None:
    sealer, opener = pair()
    body = os.urandom(size)
    events = read(opener, sealer.whole(200, "a/b", body) + sealer.final(b""))
    assert events[0] == Head(200, "a/b", size)
    assert b"".join(event.chunk for event in events if isinstance(event, Data)) == body
    assert opener.response_sha256 == sealer.response_sha256


def test_whole_answers_of_similar_length_look_alike() -> None:
    def length(size: int) -> int:
        return len(pair()[0].whole(200, "a/b", bytes(size)))

    assert len({length(size) for size in (100, 300, 512)}) == 1
    assert len({length(size) for size in range(60_000, 61_000, 50)}) <= 2


def test_a_bill_ends_the_response() -> None:
    bill = Bill(b"statement", b"signature", b"certificate")
    sealer, opener = pair()
    stream = b"".join(response(sealer)) + sealer.bill(bill)
    for step in (1, 1 << 30):
        sealer, opener = pair()
        stream = b"".join(response(sealer)) + sealer.bill(bill)
        assert read(opener, stream, step)[-1] == bill
    for tail in (sealer.bill(bill), b"\0", b"\5"):
        sealer, opener = pair()
        with pytest.raises(ConfideError):
            read(opener, b"".join(response(sealer)) + sealer.bill(bill) + tail)


def test_a_bill_only_after_the_final_frame() -> None:
    bill = Bill(b"statement", b"signature", b"certificate")
    sealer, opener = pair()
    with pytest.raises(RuntimeError):
        sealer.bill(bill)
    head, payload = sealer.head(200, "a/b"), bill.to_payload()
    with pytest.raises(FormatError):
        opener.feed(head + b"\5" + struct.pack(">I", len(payload)) + payload)


@pytest.mark.parametrize("change", ["shorter", "longer", "not zero"])
def test_a_whole_answer_of_another_length(change: str) -> None:
    sealer, opener = pair()
    body = bytes(padme(600))
    content = {"shorter": body[:-1], "longer": body + b"\0", "not zero": body[:-1] + b"\1"}
    stream = sealer.head(200, "a/b", 600) + sealer.data(content[change]) + sealer.final(b"")
    with pytest.raises(VerificationError) as error:
        opener.feed(stream)
    assert error.value.code == "bad-frame"


def test_a_whole_answer_without_its_data() -> None:
    sealer, opener = pair()
    with pytest.raises(VerificationError, match="not as long"):
        opener.feed(sealer.head(200, "a/b", 600) + sealer.final(b""))


def test_clear_error() -> None:
    error = PolicyError("unknown-key", "no such key", expected="e", seen="s", next="n")
    _, opener = pair()
    events = read(opener, clear_error(error))
    assert events == [ClearError("unknown-key", "no such key", "e", "s", "n")]


def test_clear_error_only_first_and_alone() -> None:
    record = clear_error(PolicyError("replay", "again"))
    sealer, opener = pair()
    with pytest.raises(FormatError):
        opener.feed(sealer.head(200, "a/b") + record)
    sealer, opener = pair()
    with pytest.raises(FormatError):
        opener.feed(records(sealer.head(200, "a/b"))[0] + record)
    _, opener = pair()
    with pytest.raises(VerificationError):
        opener.feed(record + record)


@given(st.binary(max_size=600))
def test_random_bytes_raise_our_errors_only(data: bytes) -> None:
    _, opener = pair()
    with pytest.raises(ConfideError):
        opener.feed(data)
        opener.finish()


def test_memory_stays_bounded() -> None:
    """A hostile length is refused before its payload is waited for."""
    _, opener = pair()
    with pytest.raises(FormatError, match="too large"):
        opener.feed(b"\x04" + struct.pack(">I", MAX_PAYLOAD + 1))


def test_the_sealer_keeps_order() -> None:
    sealer, _ = pair()
    misplaced: list[Callable[[], bytes]] = [
        lambda: sealer.data(b""),
        lambda: sealer.final(b""),
        lambda: sealer.usage(USAGE),
    ]
    for early in misplaced:
        with pytest.raises(RuntimeError):
            early()
    sealer.head(200, "a/b")
    with pytest.raises(RuntimeError):
        sealer.head(200, "a/b")
    with pytest.raises(FormatError):
        sealer.final(bytes(MAX_CONTENT + 1))
    sealer.final(b"")
    for late in misplaced:
        with pytest.raises(RuntimeError):
            late()


def test_frame_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    sealer, _ = pair()
    sealer.head(200, "a/b")
    monkeypatch.setattr(frames, "MAX_FRAMES", 1)
    with pytest.raises(RuntimeError):
        sealer.data(b"")


def test_a_whole_answer_in_other_frames() -> None:
    """Its bytes are right, but a worker cuts it only where a frame is full: one encoding each."""
    sealer, opener = pair()
    body = bytes(padme(600))
    stream = sealer.head(200, "a/b", 600) + sealer.data(body[:100]) + sealer.data(body[100:])
    with pytest.raises(VerificationError, match="wrong size"):
        opener.feed(stream + sealer.final(b""))
