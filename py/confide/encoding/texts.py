"""Single texts that are read strictly: names and hex."""

from __future__ import annotations

from confide.encoding.messages import read_value
from measure.kinds import Hex, Name


def check_name(value: str, what: str) -> str:
    """The text, if it is a name: ^[a-z0-9][a-z0-9.-]*$, at most 64 characters.

    Raises FormatError `bad-name`; `what` names the text in the error.
    """
    name: str = read_value(Name(), value, what)
    return name


def from_hex(text: str, size: int, what: str) -> bytes:
    """Exactly `size` bytes from lower-case hex. Raises FormatError `bad-hex`; `what` names it."""
    value: bytes = read_value(Hex(size), text, what)
    return value
