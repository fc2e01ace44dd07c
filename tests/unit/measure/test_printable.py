"""A peer's words are shown as words: they move no cursor, make no line and fill no screen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from measure.printable import MAX_LINE, printable


def test_escapes_are_shown() -> None:
    assert printable("\x1b[2K\x1b[1G\r\nverified\x9b1A\u202e\u2028") == (
        r"\x1b[2K\x1b[1G\r\nverified\x9b1A\u202e\u2028"
    )


def test_letters_that_move_the_words_around_them_are_shown_as_escapes() -> None:
    assert printable("a \u05d0\u0627\u0661 b") == r"a \u05d0\u0627\u0661 b"


def test_words_stay_as_they_are() -> None:
    assert printable("größer als 日本 [bold]") == "größer als 日本 [bold]"


def test_what_is_too_long_is_cut_and_says_so() -> None:
    assert printable("a" * MAX_LINE) == "a" * MAX_LINE
    for text in ("a" * (MAX_LINE + 1), "\x1b" * MAX_LINE, "a" * (1 << 20)):
        shown = printable(text)
        assert len(shown) == MAX_LINE
        assert shown.endswith(f"... ({len(text)} characters)")
    assert printable("abc" * 100, 40) == ("abc" * 100)[:20] + "... (300 characters)"


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_else_gets_through(text: str) -> None:
    """Also for lone surrogates, which JSON can hold."""
    shown = printable(text)
    assert shown.isprintable() and len(shown) <= MAX_LINE
    assert printable(shown) == shown
