"""Server-sent events, as far as the data path has to understand them (WHATWG HTML, section 9.2).

Events end with an empty line; lines end with LF or CR LF. A lone CR as a line end, which the
specification also allows and no engine sends, does not end an event here.
"""

from __future__ import annotations

import json
import re

from confide.errors import FormatError

MAX_EVENT = 4 << 20
"""Bytes of one event at most."""

_END_OF_STREAM = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)


class EventBuffer:
    """Complete events out of a byte stream that comes in pieces of any size."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, piece: bytes) -> bytes:
        """All events that this piece completes, as they came; b"" if it completes none.

        Raises FormatError "event-too-large" for an event without an end.
        """
        data = self.rest + piece
        end = max(data.rfind(b"\n\n") + 2, data.rfind(b"\n\r\n") + 3)
        if end < 3:
            end = 0
        self.rest = data[end:]
        if len(self.rest) > MAX_EVENT:
            raise FormatError(
                "event-too-large",
                "an event of the stream does not end",
                expected=f"at most {MAX_EVENT} bytes",
            )
        return data[:end] if self.rest else data


def before_done(events: bytes) -> int:
    """Where the event ``data: [DONE]`` begins, or the length if it is not there."""
    if b"[DONE]" not in events:
        return len(events)
    match = _END_OF_STREAM.search(events)
    return match.start() if match else len(events)


def split(events: bytes) -> list[bytes]:
    """Complete events, one by one, each with its end."""
    return re.findall(rb"(?s).+?\n\r?\n", events)


def payload(event: bytes) -> object:
    """The JSON that an event of one ``data:`` line holds; None if it holds no JSON."""
    if not event.startswith(b"data:"):
        return None
    try:
        return json.loads(event[5:])
    except ValueError:
        return None


def error_event(error: dict[str, object]) -> bytes:
    """An event that OpenAI clients raise as an error: ``data: {"error": {...}}``."""
    return b"data: " + json.dumps({"error": error}).encode() + b"\n\n"
