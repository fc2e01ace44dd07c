"""Errors say all their parts in one sentence and travel as strings."""

from __future__ import annotations

from confide.errors import MAX_PART, ConfideError, FormatError


def test_sentence_has_every_part() -> None:
    error = FormatError("bad-thing", "the thing is bad.", expected="a", seen="b", next="do c")
    assert str(error) == "the thing is bad; expected a; seen b; next: do c."
    assert isinstance(error, ConfideError)


def test_sentence_without_parts() -> None:
    assert str(FormatError("x", "it is bad")) == "it is bad."


def test_what_travels_only_shows_and_is_bounded() -> None:
    """Its reader refuses control characters, and an error may quote a peer."""
    error = FormatError("no", "a\x1b[2Jb", expected="e\n", seen="s" * 5000, next="n")
    travels = error.to_dict()
    assert travels["message"] == "a\\x1b[2Jb"
    assert travels["expected"] == "e\\n"
    assert len(travels["seen"]) == MAX_PART and travels["seen"].endswith("... (5000 characters)")
    assert (travels["code"], travels["next"]) == ("no", "n")
