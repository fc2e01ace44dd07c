"""Server-sent events, as far as the data path reads them (WHATWG HTML, section 9.2).

Events end with an empty line, lines with LF or CR LF. The specification also allows a lone CR,
which no engine sends; it does not end a line here.
"""

from __future__ import annotations

import json
import re

from confide.errors import FormatError

MAX_EVENT = 4 << 20
"""Most bytes of one event."""

WAITING = b": waiting\n\n"
"""A comment, which every reader of events skips: it shows that the connection is alive."""

_END_OF_STREAM = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)


class EventBuffer:
    """Makes complete events from a byte stream in pieces of any size."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, piece: bytes) -> bytes:
        """The bytes of all events that this piece completes, b"" if it completes none.

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
                "an event of the stream is too large",
                expected=f"at most {MAX_EVENT} bytes",
            )
        return data[:end] if self.rest else data


def before_done(events: bytes) -> int:
    """The position of the event ``data: [DONE]``, or the length if there is none."""
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
