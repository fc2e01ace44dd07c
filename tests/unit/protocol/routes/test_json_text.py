"""A body is counted before it is parsed, and both find the same texts in it."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import FormatError
from confide.protocol.routes.json_text import MAX_DEPTH, MAX_VALUES, parse_object, require_small


def code_of(data: bytes) -> str:
    try:
        parse_object(data, "the body")
    except FormatError as error:
        return error.code
    return ""


def values_of(value: Any) -> int:
    match value:
        case list():
            return 1 + sum(map(values_of, value))
        case dict():
            return 1 + sum(map(values_of, value.values()))
    return 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('"\\[]{},:ü\n', max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=30,
)


@given(st.dictionaries(st.text('"\\[{,', max_size=4), JSON, max_size=4))
def test_a_document_has_no_more_values_than_are_counted(value: dict[str, Any]) -> None:
    data = json.dumps(value).encode()
    assert parse_object(data, "the body") == value
    assert values_of(value) <= require_small(data, "the body") + 1
    padded = data[:-1] + b" " * 3 + b"}"
    deep = b"[" * MAX_DEPTH  # the slow way: depth has to be known
    with pytest.raises(FormatError):
        require_small(padded + deep + b"[", "the body")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}", ""),
        (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "too-deep"),
        (b'{"a":' * 100_000, "too-deep"),
        (b"[" * 5_000_000, "too-deep"),
        (b'{"a":[' + b"0," * (MAX_VALUES - 2) + b"0]}", ""),
        (b'{"a":[' + b"0," * (MAX_VALUES - 1) + b"0]}", "too-large"),
        (b'{"a":[' + b"{}," * MAX_VALUES + b"{}]}", "too-large"),
        (b'{"a":[' + b"[]," * 2_000_000 + b"[]]}", "too-large"),
        (b'{"a":' + b'""' * 2_000_000 + b"}", "bad-json"),
        (b'{"a":"' + b"," * MAX_VALUES + b'"' + b'""' * 2_000_000 + b"}", "too-large"),
        (b'{"a":"' + b"[{," * 2_000_000 + b'"}', ""),
        (b'{"a":"' + b'\\"[,' * 1_000_000 + b'"}', ""),
        (b'{"a":"' + b"[{," * 2_000_000, "bad-json"),
        (b'{"a":[' + b'"\\\\",[],' * 50_000 + b"0]}", "too-large"),
    ],
    ids=range(14),
)
def test_bounds(data: bytes, code: str) -> None:
    assert code_of(data) == code


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{}x",
        b"[]",
        b'"a"',
        b"null",
        b"\xff",
        b'{"a":"\xed\xa0\x80"}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b"{'a': 1}",
        b'{"a": 01}',
        b'{"a": 1,}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "\\u0062": 2}}',
        "{}".encode("utf-16"),
        "{}".encode("utf-32"),
    ],
)
def test_what_is_no_json_object(data: bytes) -> None:
    assert code_of(data) == "bad-json"


def test_a_byte_order_mark_is_named() -> None:
    with pytest.raises(FormatError, match="begins with a byte order mark"):
        parse_object(b"\xef\xbb\xbf{}", "the body")


def test_errors_hold_nothing_of_the_body() -> None:
    for data in (b'{"secret": secret}', b'{"secret": 1, "secret": 1}', b"secret\xff"):
        with pytest.raises(FormatError) as caught:
            parse_object(data, "the body")
        assert "secret" not in str(caught.value)


def test_what_a_refused_body_costs() -> None:
    """The review's body of 8 MiB took 230 MiB and a second."""
    body = b'{"model":"tiny","x":[' + b"{}," * ((8 << 20) // 3 - 40) + b"{}]}"
    tracemalloc.start()
    try:
        assert code_of(body) == "too-large"
        assert tracemalloc.get_traced_memory()[1] < 3 * len(body)
    finally:
        tracemalloc.stop()
