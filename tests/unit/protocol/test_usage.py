"""Counts in the clear stay within what the request allows."""

from __future__ import annotations

from typing import Any

import pytest

from confide.encoding.canonical import cbor_encode
from confide.errors import FormatError, VerificationError
from confide.protocol.usage import TOKEN, Usage, require_within, token_bounds

BODY = b"x" * 100


@pytest.mark.parametrize(
    ("request_", "output"),
    [
        ({}, 1 << 24),
        ({"max_tokens": 7}, 7),
        ({"messages": [], "max_tokens": 7, "max_completion_tokens": 5}, 5),
        ({"prompt": "one", "max_tokens": 7, "max_completion_tokens": 5}, 7),
        ({"prompt": "one", "max_completion_tokens": 5}, 1 << 24),
        ({"max_tokens": 7, "n": 3}, 21),
        ({"max_tokens": 7, "prompt": "one"}, 7),
        ({"max_tokens": 7, "prompt": ["one", "two"]}, 14),
        ({"max_tokens": 7, "prompt": [1, 2, 3]}, 7),
        ({"max_tokens": 7, "prompt": [[1, 2], [3]], "n": 2}, 28),
        ({"max_tokens": 0}, 1 << 24),
        ({"max_tokens": -1, "n": True}, 1 << 24),
        ({"max_tokens": 7.5, "n": "2x"}, 1 << 24),
        ({"max_tokens": float("inf"), "n": "9" * 5000}, 1 << 24),
        ({"max_tokens": 2**31 - 1, "n": 2**31 - 1}, 2**53),
    ],
)
def test_bounds(request_: dict[str, Any], output: int) -> None:
    assert token_bounds(BODY, request_, None) == Usage(TOKEN, 100 + 4096, output)


def test_the_model_s_length_is_a_bound() -> None:
    assert token_bounds(BODY, {}, 512).output == 512
    assert token_bounds(BODY, {"max_tokens": 7}, 512).output == 7


@pytest.mark.parametrize(
    "usage",
    [Usage(TOKEN, 11, 20), Usage(TOKEN, 10, 21), Usage("image", 1, 1), Usage(TOKEN, 2**60, 0)],
)
def test_beyond(usage: Usage) -> None:
    require_within(Usage(TOKEN, 10, 20), Usage(TOKEN, 10, 20))
    with pytest.raises(VerificationError) as error:
        require_within(usage, Usage(TOKEN, 10, 20))
    assert error.value.code == "bad-usage"


GOOD: dict[str, Any] = {"unit": "token", "input": 1, "output": 2}


@pytest.mark.parametrize("unit", ["token", "character", "image", "millisecond"])
def test_units(unit: str) -> None:
    assert Usage.parse(cbor_encode(GOOD | {"unit": unit})).unit == unit


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"input": 1, "output": 2},
        GOOD | {"unit": "dollar"},
        GOOD | {"input": -1},
        GOOD | {"output": "2"},
        GOOD | {"more": 1},
        {"prompt_tokens": 1, "completion_tokens": 1},
        [],
    ],
)
def test_malformed(usage: Any) -> None:
    with pytest.raises(FormatError):
        Usage.parse(cbor_encode(usage))
