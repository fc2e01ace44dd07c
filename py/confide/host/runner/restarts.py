"""Starts a machine anew whenever it has ended. A machine lives for one boot only."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path

from confide.errors import UnavailableError
from confide.host.runner.vm import Machine

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds between the end of a machine and its next start. Each is twice the one before."""

STEADY_SECONDS = 600.0
"""A machine that ran for so long was no failed start: the next pause is the first again."""


def run_anew(
    machine: Machine,
    serve: Callable[[], None],
    interrupted: threading.Event,
    say: Callable[[str], None],
) -> None:
    """Start the machine, and start it anew whenever it has ended, until `interrupted` is set.

    The console of each boot is kept: the last one is `console.log`, those before have numbers.

    Args:
        machine: Not started yet. Its ports stay the same over all boots.
        serve: Called for each boot, with the machine started. It returns once `interrupted` is set.
            It raises UnavailableError if the machine ended or did not become ready.
        interrupted: Ends everything, also a pause.
        say: Prints a line for a person.
    """
    pause = FIRST_PAUSE
    while True:
        started = time.monotonic()
        try:
            with machine:
                serve()
                return
        except UnavailableError as error:
            ended = error
        if time.monotonic() - started >= STEADY_SECONDS:
            pause = FIRST_PAUSE
        cause = machine.cause()
        say(
            f"{ended.message}{f': {cause}' if cause else ''}; its console is kept in "
            f"{keep_console(machine.console)}; it starts anew in {pause:.0f} s"
        )
        if interrupted.wait(pause):
            return
        pause = min(2 * pause, LONGEST_PAUSE)


def keep_console(console: Path) -> Path:
    """Give the console's file the next free number: `console.1.log`, `console.2.log`, ..."""
    console.touch()  # a machine that could not be started has none
    for number in itertools.count(1):
        kept = console.with_name(f"{console.stem}.{number}{console.suffix}")
        if not kept.exists():
            return console.rename(kept)
    raise AssertionError("numbers do not end")
