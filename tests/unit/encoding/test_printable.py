"""A peer's words are shown as words: they move no cursor and make no line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from confide.encoding.printable import printable


def test_escapes_are_shown() -> None:
    assert printable("\x1b[2K\x1b[1G\r\nverified\x9b1A\u202e\u2028") == (
        r"\x1b[2K\x1b[1G\r\nverified\x9b1A\u202e\u2028"
    )


def test_words_stay_as_they_are() -> None:
    assert printable("größer als 日本 [bold]") == "größer als 日本 [bold]"


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_else_gets_through(text: str) -> None:
    """Also for lone surrogates, which JSON can hold."""
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
