"""What a peer says when it refuses: read within bounds, and never shown as this program's words."""

from __future__ import annotations

from confide.errors import (
    ConfideError,
    FormatError,
    PolicyError,
    UnavailableError,
)
from confide.net.calls import Answer
from confide.protocol.error_answer import read_error

MAX_WAIT = 3600
"""Seconds. A peer that wants to be left alone for longer is asked again after an hour."""

_KIND_BY_STATUS: dict[int, type[ConfideError]] = {
    400: FormatError,
    413: FormatError,
    429: UnavailableError,
    503: UnavailableError,
}


def peer_error(answer: Answer, url: str) -> ConfideError:
    """The error in a peer's answer; "not-confide" for an answer without one.

    Its message says whose words it has, so no peer's words stand alone behind this program's name.
    """
    kind = _KIND_BY_STATUS.get(answer.status, PolicyError)
    wait = seconds_to_wait(answer.header("Retry-After"))
    try:
        said = read_error(answer.body)
    except FormatError:
        return UnavailableError(
            "not-confide",
            f"{url} does not speak Confide's protocol",
            expected="CBOR, or an error as JSON",
            seen=f"HTTP status {answer.status}",
            next="check the address",
            retry_after=wait,
        )
    return kind(
        said.code,
        f"{url} answers: {said.message}",
        expected=said.expected,
        seen=said.seen,
        next=said.next,
        retry_after=wait,
    )


def seconds_to_wait(text: str) -> int:
    """The seconds in a header `Retry-After` (RFC 9110, 10.2.3), an hour at most.

    0 if it says nothing that our programs send: they send no dates.
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 9):
        return 0
    return min(int(text), MAX_WAIT)
