"""Sealed requests and their headers, and all that somebody in the middle could do to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import ConfideError, FormatError, VerificationError
from confide.protocol.sealed import MAX_REQUEST, RequestHeaders, RequestOpener, RequestSealer
from tests.support.sealed_pair import KEY, KEY_ID, PLACE, exchange


@given(st.binary(max_size=2000))
def test_request_round_trip(body: bytes) -> None:
    sealer = RequestSealer(KEY, KEY_ID)
    sealed = sealer.seal(**PLACE, body=body)
    opened = RequestOpener(KEY, KEY_ID).open(sealed, **PLACE)
    assert opened.body == body
    assert opened.request_sha256 == sealer.request_sha256
    assert len(sealed) == 32 + len(body) + 16


def test_salts_are_fresh() -> None:
    assert len({exchange()[1].salt for _ in range(20)}) == 20


def test_a_sealer_seals_once() -> None:
    sealer = RequestSealer(KEY, KEY_ID)
    sealer.seal(**PLACE, body=b"")
    with pytest.raises(RuntimeError):
        sealer.seal(**PLACE, body=b"")


@pytest.mark.parametrize(
    ("field", "value"),
    [("method", "GET"), ("path", "/v1/chat/completions"), ("model", "big"), ("model", "")],
)
def test_associated_data_is_covered(field: str, value: str) -> None:
    sealed = RequestSealer(KEY, KEY_ID).seal(**PLACE, body=b"{}")
    with pytest.raises(VerificationError) as error:
        RequestOpener(KEY, KEY_ID).open(sealed, **{**PLACE, field: value})
    assert error.value.code == "bad-seal"


def test_another_key_or_key_id() -> None:
    sealed = RequestSealer(KEY, KEY_ID).seal(**PLACE, body=b"{}")
    for key, key_id in ((bytes(32), KEY_ID), (KEY, bytes(32))):
        with pytest.raises(VerificationError) as error:
            RequestOpener(key, key_id).open(sealed, **PLACE)
        assert error.value.code == "bad-seal"


def test_fields_cannot_move_within_the_associated_data() -> None:
    sealed = RequestSealer(KEY, KEY_ID).seal(method="POST", path="/a", model="b", body=b"")
    with pytest.raises(VerificationError):
        RequestOpener(KEY, KEY_ID).open(sealed, method="POST/a", path="", model="b")


def test_request_damage() -> None:
    sealed = RequestSealer(KEY, KEY_ID).seal(**PLACE, body=b"hello")
    opener = RequestOpener(KEY, KEY_ID)
    for at in range(len(sealed)):
        with pytest.raises(VerificationError):
            opener.open(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], **PLACE)
        with pytest.raises(ConfideError):
            opener.open(sealed[:at], **PLACE)
    with pytest.raises(VerificationError):
        opener.open(sealed + b"\0", **PLACE)
    with pytest.raises(FormatError):
        opener.open(bytes(MAX_REQUEST + 1), **PLACE)


def test_the_body_stays_out_of_logs() -> None:
    sealer = RequestSealer(KEY, KEY_ID)
    opened = RequestOpener(KEY, KEY_ID).open(sealer.seal(**PLACE, body=b"secret"), **PLACE)
    assert "secret" not in repr(opened)


HEADERS = RequestHeaders("tiny", KEY_ID, "shard-1").encode()


def test_headers_round_trip() -> None:
    assert RequestHeaders.parse(HEADERS) == RequestHeaders("tiny", KEY_ID, "shard-1")
    plain = RequestHeaders("tiny", KEY_ID)
    assert RequestHeaders.parse(plain.encode()) == plain
    assert "Confide-Shard-Key" not in plain.encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Confide-Version", None),
        ("Confide-Version", "2"),
        ("Content-Type", "application/json"),
        ("Confide-Model", None),
        ("Confide-Model", "Tiny Model"),
        ("Confide-Key-Id", None),
        ("Confide-Key-Id", "07" * 31),
        ("Confide-Key-Id", "0A" * 32),
        ("Confide-Shard-Key", "a b"),
        ("Confide-Shard-Key", "x" * 65),
    ],
)
def test_headers_refused(name: str, value: str | None) -> None:
    headers = {k: v for k, v in HEADERS.items() if k != name}
    if value is not None:
        headers[name] = value
    with pytest.raises(FormatError):
        RequestHeaders.parse(headers)
