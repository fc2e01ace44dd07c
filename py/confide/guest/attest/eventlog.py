"""The firmware's log of what it measured. It goes into the evidence unchecked."""

from __future__ import annotations

from pathlib import Path

from confide.errors import UnavailableError


def read_event_log(path: Path) -> bytes:
    """The whole log. Raises UnavailableError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnavailableError(
            "no-event-log",
            "the firmware's event log cannot be read",
            expected=f"a readable {path}",
            seen=error.strerror or type(error).__name__,
            next="boot with UEFI firmware that measures what it starts",
        ) from error
