"""One value, one encoding: everything that could be read in two ways is refused."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.encoding.canonical import (
    MAX_DEPTH,
    MAX_VALUES,
    Cbor,
    cbor_decode,
    cbor_encode,
    json_decode,
    json_encode,
)
from confide.errors import ConfideError, FormatError

INTEGERS = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def values(*extra: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    leaves = st.one_of(st.none(), st.booleans(), INTEGERS, TEXT, *extra)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
        max_leaves=12,
    )


@given(values(st.binary(max_size=40)))
def test_cbor_round_trip(value: Any) -> None:
    assert cbor_decode(cbor_encode(value), what="test") == value


@given(values())
def test_json_round_trip(value: Any) -> None:
    assert json_decode(json_encode(value), what="test") == value


@given(st.binary(max_size=200))
def test_cbor_accepts_only_what_it_would_write(data: bytes) -> None:
    try:
        value = cbor_decode(data, what="test")
    except FormatError:
        return
    assert cbor_encode(value) == data


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode()))
def test_json_accepts_only_what_it_would_write(data: bytes) -> None:
    try:
        value = json_decode(data, what="test")
    except FormatError:
        return
    assert json_encode(value) == data


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", ""),
        ("trailing byte", "f600"),
        ("integer not shortest", "1801"),
        ("length not shortest", "580141"),
        ("indefinite bytes", "5f4101ff"),
        ("indefinite list", "9f01ff"),
        ("indefinite map", "bf616101ff"),
        ("double key", "a2616101616102"),
        ("unsorted keys", "a2616201616101"),
        ("integer key", "a10101"),
        ("bytes key", "a1410101"),
        ("half float", "f93c00"),
        ("double float", "fb3ff0000000000000"),
        ("not a number", "f97e00"),
        ("undefined", "f7"),
        ("simple value", "f8ff"),
        ("date tag", "c074323031332d30332d32315432303a30343a30305a"),
        ("big number tag", "c24101"),
        ("big number", "c249010000000000000000"),
        ("regular expression tag", "d8236161"),
        ("big float tag", "c5821b7fffffffffffffff01"),
        ("self-description tag", "d9d9f700"),
        ("unknown tag", "da0001000001"),
        ("shared value tag", "d81c80"),
        ("integer over 64 signed bits", "1b8000000000000000"),
        ("integer under 64 signed bits", "3b8000000000000000"),
        ("bad UTF-8", "61ff"),
        ("truncated bytes", "5820" + "00" * 31),
        ("list of impossible length", "9b7fffffffffffffff"),
        ("bytes of impossible length", "5b7fffffffffffffff"),
        ("reserved length", "1c"),
        ("break alone", "ff"),
    ],
)
def test_cbor_refuses(name: str, data: str) -> None:
    with pytest.raises(FormatError):
        cbor_decode(bytes.fromhex(data), what=name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "{}\n\n",
        " {}\n",
        '{"a": 1, "b": 2}\n',
        '{\n  "b": 1,\n  "a": 2\n}\n',
        '{\n  "a": 1,\n  "a": 1\n}\n',
        "1.0\n",
        "1e3\n",
        "NaN\n",
        "Infinity\n",
        "-0\n",
        '"\\u0041"\n',
        '"\\u00E4"\n',
        '"ä"\n',
        '"\\ud800"\n',
        "9223372036854775808\n",
        "\ufeff{}\n",
        "[" * 5000 + "]" * 5000 + "\n",
    ],
)
def test_json_refuses(text: str) -> None:
    with pytest.raises(FormatError):
        json_decode(text.encode(), what="test")


@pytest.mark.parametrize(
    "data",
    [
        "c074323031332d30332d32315432303a30343a30305a",
        "c24101",
        "d8236161",
        "c5821b7fffffffffffffff01",
        "da0001000001",
        "82f6c24101",
    ],
)
def test_no_decoder_of_a_tag_runs(data: str) -> None:
    """Refused while reading, and not only because the value looks different afterwards."""
    with pytest.raises(FormatError) as error:
        cbor_decode(bytes.fromhex(data), what="test")
    assert error.value.code == "bad-cbor"


def test_size_limit() -> None:
    data = cbor_encode(bytes(100))
    assert cbor_decode(data, what="test", limit=len(data)) == bytes(100)
    with pytest.raises(FormatError, match="too large"):
        cbor_decode(data, what="test", limit=len(data) - 1)
    with pytest.raises(FormatError, match="too large"):
        json_decode(b"{}\n", what="test", limit=2)


@pytest.mark.parametrize(
    "data",
    [
        b"\x9a\x00\x01\x00\x00" + b"\x80" * 65536,
        b"\x9a\x00\x01\x00\x00" + b"\xa0" * 65536,
        b"\x82\x41\x00\x9a\x00\x01\x00\x00" + b"\xf6" * 65536,
        # A string of stated length hides what is in it; one of unstated length must not.
        b"\x82\x5f\x41\x00\xff\x9a\x00\x01\x00\x00" + b"\x80" * 65536,
    ],
    ids=["lists", "maps", "after a string", "after a string without a length"],
)
def test_number_of_values_is_limited(data: bytes) -> None:
    """Each empty list is one byte that takes a hundred in memory: the size alone bounds nothing."""
    tracemalloc.start()
    with pytest.raises(FormatError) as error:
        cbor_decode(data, what="test", limit=1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.value.code == "bad-cbor"
    assert peak < 1 << 20


def test_as_many_values_as_the_limit() -> None:
    value: list[Cbor] = [b"\x80" * 1000, *[None] * (MAX_VALUES - 2)]
    assert cbor_decode(cbor_encode(value), what="test") == value
    with pytest.raises(FormatError, match="values"):
        cbor_decode(cbor_encode([*value, None]), what="test")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_depth_limit() -> None:
    assert cbor_decode(cbor_encode(nested(MAX_DEPTH)), what="test") == nested(MAX_DEPTH)
    for encode in (cbor_encode, json_encode):
        with pytest.raises(FormatError):
            encode(nested(MAX_DEPTH + 1))
    with pytest.raises(FormatError) as error:
        cbor_decode(b"\x81" * (MAX_DEPTH + 1) + b"\x01", what="test")
    assert error.value.code == "bad-cbor"
    with pytest.raises(FormatError):
        cbor_decode(b"\x81" * 100_000 + b"\x01", what="test")


@pytest.mark.parametrize(
    "value", [1.0, {1: 2}, {b"a": 1}, (1, 2), {1}, bytearray(b"a"), 2**63, "\ud800", {"\ud800": 1}]
)
def test_encoders_refuse_other_types(value: Any) -> None:
    for encode in (cbor_encode, json_encode):
        with pytest.raises(ConfideError):
            encode(value)


def test_json_refuses_bytes() -> None:
    with pytest.raises(FormatError):
        json_encode({"a": b"b"})  # type: ignore[dict-item]
