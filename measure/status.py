"""The exit statuses of all commands, in one place: a script may rely on them."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """What a command ends with."""

    OK = 0
    """It did what was asked, and what it compared is equal."""
    DIFFERS = 1
    """A check failed: two things differ, or an event log contradicts itself."""
    ERROR = 2
    """Nothing was decided: wrong usage, or a file that cannot be read, understood or written."""
