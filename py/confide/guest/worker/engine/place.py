"""Where the engine of a model lives: its number, its user, its folder and its socket. No I/O.

The first model of the config disk has engine 1. The images have a user, a unit and a folder for
each of MAX_MODELS engines (images/worker/systemd, images/base/tree/etc/passwd).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FIRST_USER = 301
"""The number of the user engine-1."""

FOLDERS = Path("/run/confide-engine")
"""FOLDERS/N is a small file system of its own, which an engine can fill without harm to others. The
disk mounter mounts it. In it is the engine's runtime directory."""


@dataclass(frozen=True)
class Place:
    """Of engine `number`, 1 or more."""

    number: int
    folder: Path
    """The service manager makes it when the engine's unit starts, and removes it when the last
    process of the unit is gone. Only the engine writes into it."""

    user: int
    """Who listens on the socket."""

    @property
    def socket(self) -> Path:
        """Where the engine serves HTTP."""
        return self.folder / "http.sock"


def place_of(number: int) -> Place:
    """The place of an engine in an image."""
    return Place(number, FOLDERS / str(number) / "run", FIRST_USER + number - 1)
