"""Sealed requests and their headers, and all that somebody in the middle could do to them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from confide.encoding.canonical import cbor_encode
from confide.errors import ConfideError, FormatError, VerificationError
from confide.protocol import sealed as module
from confide.protocol.padding import pad, padme
from confide.protocol.sealed import (
    MAX_REQUEST,
    MIN_REQUEST,
    RequestContent,
    RequestHeaders,
    RequestSealer,
    SealedRequest,
)
from tests.support.sealed_pair import HEADERS, KEY, PLACE, exchange, open_request, seal

CLEAR = 32 + 1168 + 32


@given(st.binary(max_size=2000), st.integers(0, 2**64 - 1))
def test_request_round_trip(body: bytes, counter: int) -> None:
    content = RequestContent(body, "audio/wav", 40)
    sealer = RequestSealer(KEY, counter)
    sealed = sealer.seal(content, HEADERS, **PLACE)
    opened = open_request(sealed)
    assert (opened.content, opened.counter) == (content, counter)
    assert opened.request_sha256 == sealer.request_sha256
    assert len(sealed) == CLEAR + padme(4 + len(content.encode())) + 16


def test_requests_of_similar_length_look_alike() -> None:
    assert len({len(seal(bytes(size))) for size in range(100)}) == 1
    assert len({len(seal(bytes(size))) for size in range(20_000, 20_400)}) <= 2


def test_salts_are_fresh_also_for_one_counter() -> None:
    assert len({seal()[CLEAR - 32 : CLEAR] for _ in range(20)}) == 20


def test_a_sealer_seals_once() -> None:
    sealer = RequestSealer(KEY, 0)
    sealer.seal(RequestContent(b""), HEADERS, **PLACE)
    with pytest.raises(RuntimeError):
        sealer.seal(RequestContent(b""), HEADERS, **PLACE)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "GET"},
        {"path": "/v1/chat/completions"},
        {"headers": replace(HEADERS, model="big")},
        {"headers": replace(HEADERS, key_id=bytes(32))},
        {"headers": replace(HEADERS, manifest_sha256=bytes(32))},
        {"headers": replace(HEADERS, worker=bytes(32))},
        {"headers": replace(HEADERS, key_id=HEADERS.worker, worker=HEADERS.key_id)},
        {"worker_key": bytes(32)},
        {"share": bytes(32)},
        {"worker_key": KEY.share, "share": KEY.worker_key},
    ],
)
def test_what_the_seal_covers(changes: dict[str, Any]) -> None:
    with pytest.raises(VerificationError) as error:
        open_request(seal(), **changes)
    assert error.value.code == "bad-seal"


def test_fields_cannot_move_within_the_associated_data() -> None:
    one, two = replace(HEADERS, model="b"), replace(HEADERS, model="")
    assert one.associated_data("POST", "/a") != two.associated_data("POST", "/ab")
    assert one.associated_data("POST", "/a") != one.associated_data("POST/a", "")


def test_request_damage() -> None:
    """The KEM key's hash and the sealed share are not covered: their damage hides the share."""
    whole = seal(b"hello")
    for at in [*range(CLEAR - 32, len(whole), 13), len(whole) - 1]:
        with pytest.raises(VerificationError):
            open_request(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    for end in (0, 31, CLEAR, MIN_REQUEST - 1, len(whole) - 1):
        with pytest.raises(ConfideError):
            open_request(whole[:end])
    with pytest.raises(VerificationError):
        open_request(whole + b"\0")


@pytest.mark.parametrize("size", [0, MIN_REQUEST - 1, MAX_REQUEST + 1])
def test_impossible_sizes(size: int) -> None:
    with pytest.raises(FormatError) as error:
        SealedRequest.cut(bytes(size))
    assert error.value.code == "bad-request-size"
    assert len(seal(b"")) == MIN_REQUEST


def forged(plaintext: bytes) -> bytes:
    """What only a holder of both secrets can seal, with a plaintext of the test's own."""
    salt = os.urandom(32)
    aead: AESGCM = module._request_aead(KEY.worker_key + KEY.share, salt)
    data = HEADERS.associated_data("POST", "/v1/completions")
    return bytes(CLEAR - 32) + salt + aead.encrypt(bytes(12), plaintext, data)


GOOD: dict[str, Any] = {"body": b"", "content_type": "a/b", "pace_ms": 0}


def test_the_forger_can_seal_what_opens() -> None:
    assert open_request(forged(pad(cbor_encode(GOOD)))).content.content_type == "a/b"


@pytest.mark.parametrize(
    "content",
    [
        {**GOOD, "body": "text"},
        {**GOOD, "content_type": "a\r\nb"},
        {**GOOD, "content_type": "a" * 257},
        {**GOOD, "pace_ms": -1},
        {**GOOD, "pace_ms": 1001},
        {**GOOD, "more": 1},
        {"body": b"", "content_type": "a/b"},
        [],
    ],
)
def test_malformed_content(content: Any) -> None:
    with pytest.raises(FormatError):
        open_request(forged(pad(cbor_encode(content))))


def test_another_padding() -> None:
    good = pad(cbor_encode(GOOD))
    for bad in (good[:-1] + b"\1", good + bytes(32), good[:-1], cbor_encode(GOOD).ljust(512)):
        with pytest.raises((FormatError, VerificationError)):
            open_request(forged(bad))


@pytest.mark.parametrize(
    "content", [GOOD | {"secret": 1}, GOOD | {"pace_ms": 4711}, {"secret": b""}, ["secret"]]
)
def test_an_error_about_sealed_content_quotes_none_of_it(content: Any) -> None:
    """Errors of `open` leave the worker in the clear."""
    with pytest.raises(FormatError) as error:
        open_request(forged(pad(cbor_encode(content))))
    said = "".join(error.value.to_dict().values())
    assert "secret" not in said and "4711" not in said


def test_the_body_stays_out_of_logs() -> None:
    opened = open_request(seal(b"secret"))
    assert "secret" not in repr(opened) + repr(opened.content)
    assert "x05" not in repr(KEY)


def test_two_requests_share_no_response_key() -> None:
    (one, _), (two, _) = exchange(), exchange()
    assert one._salt != two._salt


ENCODED = HEADERS.encode()


def test_headers_round_trip() -> None:
    assert RequestHeaders.parse(ENCODED) == HEADERS
    assert set(ENCODED) == {
        "Confide-Version", "Confide-Manifest", "Confide-Model", "Confide-Key-Id", "Confide-Worker",
        "Content-Type",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Confide-Version", None),
        ("Confide-Version", "1"),
        ("Content-Type", "application/json"),
        ("Confide-Model", None),
        ("Confide-Model", "Tiny Model"),
        ("Confide-Key-Id", None),
        ("Confide-Key-Id", "07" * 31),
        ("Confide-Key-Id", "0A" * 32),
        ("Confide-Manifest", None),
        ("Confide-Manifest", "07" * 33),
        ("Confide-Worker", None),
        ("Confide-Worker", "x"),
    ],
)
def test_headers_refused(name: str, value: str | None) -> None:
    headers = {k: v for k, v in ENCODED.items() if k != name}
    if value is not None:
        headers[name] = value
    with pytest.raises(FormatError):
        RequestHeaders.parse(headers)
