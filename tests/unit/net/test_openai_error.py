"""Apps print the errors of their SDK. These hold no words that could control a terminal."""

from __future__ import annotations

from confide.errors import ConfideError
from confide.net.openai_error import from_error
from measure.printable import MAX_LINE


def test_a_peer_s_words_are_escaped() -> None:
    said = ConfideError("x\x1b[2K", "no\x1b[2K\nverified\u202e", seen="\x9b1A" + "a" * 10_000)
    error = from_error(said, 502)
    assert error["code"] == r"x\x1b[2K"
    message = str(error["message"])
    assert message.startswith(r"no\x1b[2K\nverified\u202e; seen \x9b1A")
    assert message.isprintable() and len(message) == MAX_LINE
