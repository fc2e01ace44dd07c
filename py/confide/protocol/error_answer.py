"""An error as it travels: JSON `{"error": {code, message, expected, seen, next}}`, all text.

Nobody authenticates an error, so its reader believes nothing of it. Whatever breaks these bounds is
no error of ours: the reader then says what HTTP says, in its own words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from confide.encoding.canonical import foreign_json
from confide.encoding.messages import from_map
from confide.errors import MAX_PART, FormatError
from measure.declare import Nested
from measure.kinds import Converted, Name, Text

MAX_ERROR = 1 << 16
"""Bytes of an error's JSON."""

_WHAT = "the peer's error"


def _only_shows(text: str) -> str:
    if not text.isprintable():
        raise FormatError("bad-field", "an error's text is not printable", seen=ascii(text[:80]))
    return text


WORDS = Converted(Text(MAX_PART), read=_only_shows, write=str)
"""A text of an error: at most 1,600 characters, none of which moves a cursor."""


@dataclass(frozen=True)
class ErrorWords:
    """What a peer says about its error."""

    code: Annotated[str, Name()]
    message: Annotated[str, WORDS]
    expected: Annotated[str, WORDS]
    seen: Annotated[str, WORDS]
    next: Annotated[str, WORDS]


@dataclass(frozen=True)
class _ErrorAnswer:
    error: Annotated[ErrorWords, Nested(ErrorWords)]


def read_error(body: bytes) -> ErrorWords:
    """The error in the body of an answer. Raises FormatError for anything else."""
    if len(body) > MAX_ERROR:
        seen = f"{len(body)} bytes"
        raise FormatError("too-large", f"{_WHAT} is too large", seen=seen)
    answer: _ErrorAnswer = from_map(_ErrorAnswer, foreign_json(body, _WHAT), _WHAT)
    return answer.error
