"""Text that somebody else wrote, on its way to a person's terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with an escape for each character that is not printable, as a newline is not.

    What a peer wrote then moves no cursor, hides nothing and makes no line of its own.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
