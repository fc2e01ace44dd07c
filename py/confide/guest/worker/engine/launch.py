"""Becomes an engine: `python -m confide.guest.worker.engine.launch N`, as the user of engine N.

The unit of an engine starts it. What to run is in a file that the supervisor wrote, another user.
Nothing of this program's environment is inherited.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from confide.encoding.messages import JsonMessage
from measure.kinds import ListOf, MapOf, Text

LAUNCHES = Path("/run/confide-engines/launch")
"""The folder of these files. The unit of engine N shows the engine only N's."""


@dataclass(frozen=True)
class Launch(JsonMessage, what="the launch file"):
    """A program with its arguments, itself the first, and its whole environment."""

    arguments: Annotated[tuple[str, ...], ListOf(Text(), min_items=1)]
    environment: Annotated[Mapping[str, str], MapOf(Text(), Text())]


def main() -> None:
    """Run what the file says in this program's place. Raises FormatError, OSError."""
    launch = Launch.parse((LAUNCHES / f"{sys.argv[1]}.json").read_bytes())
    os.execve(launch.arguments[0], launch.arguments, launch.environment)  # noqa: S606  no shell


if __name__ == "__main__":
    main()
