"""Each claim: what it accepts, what it refuses, and that none can be made without a reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from confide.errors import PolicyError
from confide.verify.claims import AtLeast, Bits, Claim, Equals, InsecureAny, OneOf, Value
from confide.verify.verdict import Check


def accepts(claim: Claim, seen: Value) -> bool:
    return claim.check(seen).passed


def test_equals() -> None:
    claim = Equals("digest", b"\xaa\xbb", "manifest")
    assert claim.check(b"\xaa\xbb") == Check("digest", "aabb", "aabb", True, "manifest")
    assert claim.check(b"\xaa") == Check("digest", "aabb", "aa", False, "manifest")
    assert not accepts(claim, "aabb"), "text is not bytes, though it is shown alike"
    assert not accepts(Equals("n", "1", "manifest"), 1)
    assert not accepts(Equals("n", 1, "manifest"), True)
    assert accepts(Equals("n", 0, "manifest"), 0), "zero is a value"


def test_one_of() -> None:
    claim = OneOf("shape", ["small", "large"], "manifest")
    assert accepts(claim, "small") and accepts(claim, "large")
    assert claim.check("huge") == Check("shape", "one of small, large", "huge", False, "manifest")
    assert not accepts(OneOf("n", [1], "manifest"), True)
    assert not accepts(OneOf("n", ["1"], "manifest"), 1)


def test_empty_list_accepts_nothing() -> None:
    claim = OneOf("shape", [], "manifest")
    for seen in ("", b"", 0, "small"):
        check = claim.check(seen)
        assert not check.passed
        assert check.expected == "nothing is accepted"


def test_at_least() -> None:
    claim = AtLeast("version", 7, "manifest")
    assert accepts(claim, 7) and accepts(claim, 8)
    assert claim.check(6) == Check("version", "at least 7", "6", False, "manifest")
    assert not accepts(claim, "8") and not accepts(claim, b"\x08")
    assert accepts(AtLeast("version", 0, "manifest"), 0)


def test_bits() -> None:
    claim = Bits("attributes", mask=0b1101, value=0b0100, source="manifest")
    assert accepts(claim, 0b0100) and accepts(claim, 0b10_0110), "bits outside the mask are free"
    for seen in (0b0000, 0b1100, 0b0101, 0b1111):
        assert not accepts(claim, seen)
    assert not accepts(claim, "4") and not accepts(claim, b"\x04")
    assert claim.check(0).expected == "0x4 in the bits 0xd"


def test_opt_out_says_what_it_is() -> None:
    claim = InsecureAny("chip", "insecure_any_chip", "manifest")
    assert claim.check(b"\1") == Check(
        "chip", "anything, because of insecure_any_chip", "01", True, "manifest"
    )
    assert accepts(claim, "") and accepts(claim, 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Equals("x", None, "manifest"),
        lambda: Equals("x", b"", "manifest"),
        lambda: Equals("x", "", "manifest"),
        lambda: OneOf("x", None, "manifest"),
        lambda: AtLeast("x", None, "manifest"),
        lambda: Bits("x", 0, 0, "manifest"),
        lambda: Bits("x", 0b01, 0b10, "manifest"),
        lambda: InsecureAny("x", "any_chip", "manifest"),
    ],
)
def test_claim_without_a_reference_cannot_be_made(make: Callable[[], Claim]) -> None:
    with pytest.raises(PolicyError, match="no usable reference") as error:
        make()
    assert error.value.code == "unset-reference"


@pytest.mark.parametrize(
    "claim",
    [
        Equals("x", 1, "manifest"),
        OneOf("x", [1], "manifest"),
        AtLeast("x", 1, "manifest"),
        Bits("x", 1, 1, "manifest"),
        InsecureAny("x", "insecure_x", "manifest"),
    ],
)
def test_nothing_that_is_seen_makes_a_claim_raise(claim: Claim) -> None:
    odd: list[Any] = [b"", b"\xff" * 99, "", "\udc80 \0", -1, 1 << 99, True, None, [], {}]
    for seen in odd:
        check = claim.check(seen)
        assert check.name == "x" and check.source == "manifest"
