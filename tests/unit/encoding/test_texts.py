"""Names and hex by themselves: one spelling, and nothing else."""

from __future__ import annotations

import pytest

from confide.encoding.texts import check_name, from_hex
from confide.errors import FormatError


@pytest.mark.parametrize("name", ["a", "0", "a.b", "a-b", "x" * 64])
def test_names(name: str) -> None:
    assert check_name(name, "test") == name


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "a_b", "a/b", "a\n", "ä", "x" * 65, "a b"])
def test_not_names(name: str) -> None:
    with pytest.raises(FormatError, match="test is not a name") as caught:
        check_name(name, "test")
    assert caught.value.code == "bad-name"


@pytest.mark.parametrize("text", ["0F", "0", "0g", " 00", "00\n", "0x", "٠٠"])
def test_not_hex(text: str) -> None:
    with pytest.raises(FormatError, match="test is not hex") as caught:
        from_hex(text, 1, "test")
    assert caught.value.code == "bad-hex"
