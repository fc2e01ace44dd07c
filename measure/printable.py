"""Text that somebody else wrote, on its way to a person's eyes.

`measure.output` and `confide.encoding.console` pass everything that they print through here, so it
is escaped in one place. Programs read the same words whole and escaped, as JSON.
"""

from __future__ import annotations

from unicodedata import bidirectional

MAX_LINE = 4000
"""Most characters of one text. A peer may send a megabyte, which would push the rest away."""

_RIGHT_TO_LEFT = ("R", "AL", "AN")


def printable(text: str, limit: int = MAX_LINE) -> str:
    """The text as at most `limit` characters that only show.

    Every character that is not printable becomes an escape: newlines, terminal escapes, C1
    controls, bidi overrides, blanks without width. So what a peer wrote moves no cursor, hides
    nothing and makes no line of its own. Letters that run from right to left are escaped, too,
    because a terminal moves the words around them. What is too long is cut, and says so.
    """
    shown = "".join(map(_escaped, text[: limit + 1]))
    if len(shown) <= limit:
        return shown
    end = f"... ({len(text)} characters)"
    return shown[: limit - len(end)] + end


def _escaped(character: str) -> str:
    if character.isprintable() and bidirectional(character) not in _RIGHT_TO_LEFT:
        return character
    return character.encode("unicode_escape").decode()
