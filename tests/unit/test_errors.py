"""Errors say all their parts in one sentence and travel as strings."""

from __future__ import annotations

import pytest

from confide.errors import ConfideError, FormatError, PolicyError, error_from_dict


def test_sentence_has_every_part() -> None:
    error = FormatError("bad-thing", "the thing is bad.", expected="a", seen="b", next="do c")
    assert str(error) == "the thing is bad; expected a; seen b; next: do c."
    assert isinstance(error, ConfideError)


def test_sentence_without_parts() -> None:
    assert str(FormatError("x", "it is bad")) == "it is bad."


def test_round_trip() -> None:
    error = PolicyError("no", "not allowed", expected="e", seen="s", next="n")
    again = error_from_dict(error.to_dict(), PolicyError)
    assert type(again) is PolicyError
    assert again.to_dict() == error.to_dict() == {
        "code": "no", "message": "not allowed", "expected": "e", "seen": "s", "next": "n",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["code", "message", "expected", "seen", "next"])
@pytest.mark.parametrize("part", [None, 1, [], {}])
def test_every_part_of_a_peer_s_error_is_text(name: str, part: object) -> None:
    """Else the thread that shows the error would end with another one."""
    with pytest.raises(TypeError):
        error_from_dict({"code": "no", "message": "not allowed", name: part}, PolicyError)
