"""PADMÉ: few lengths, small cost, and one padding for each content."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import FormatError
from confide.protocol.padding import pad, padme, unpad


def reference(length: int) -> int:
    """The paper's algorithm 1 as it stands there, with floating point (exact below 2^48)."""
    exponent = math.floor(math.log2(length))
    size = math.floor(math.log2(exponent)) + 1
    mask = (1 << (exponent - size)) - 1
    return (length + mask) & ~mask


@given(st.integers(512, 1 << 26))
def test_it_is_the_paper_s(length: int) -> None:
    assert padme(length) == reference(length)


@given(st.integers(0, 1 << 26))
def test_cost_and_order(length: int) -> None:
    padded = padme(length)
    assert max(length, 512) <= padded <= max(length, 512) * 1.12
    assert padme(padded) == padded
    assert padme(length + 1) >= padded


def test_few_lengths() -> None:
    """Of 16 MiB lengths, some hundred can be told apart."""
    lengths, length = 0, 0
    while length < 16 << 20:
        length = padme(length + 1)
        lengths += 1
    assert lengths < 400


@given(st.binary(max_size=3000))
def test_round_trip(content: bytes) -> None:
    assert unpad(pad(content)) == content


@pytest.mark.parametrize(
    "padded",
    [
        b"",
        bytes(3),
        bytes(511),
        bytes(513),
        bytes(544),
        bytes(511) + b"\1",
        b"\xff\xff\xff\xff" + bytes(508),
        (509).to_bytes(4, "big") + bytes(508),
        (100).to_bytes(4, "big") + bytes(540),
        (508).to_bytes(4, "big") + bytes(540),
    ],
)
def test_another_padding(padded: bytes) -> None:
    with pytest.raises(FormatError) as error:
        unpad(padded)
    assert error.value.code == "bad-padding"
