"""Work that a program does again and again for as long as it lives, in threads that nothing ends.

A thread ends with the first exception that leaves it, and its program goes on without it: unjoined,
unverified, or with keys that should be forgotten. What peers answer reaches these threads. So each
of them is started here, and `tests/unit/net/test_loops.py` looks for others.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress

from confide.encoding.console import say as say_on_console
from confide.errors import ConfideError

FIRST_PAUSE = 1.0
MAX_PAUSE = 60.0
"""Seconds after a round that failed. Each pause is twice the one before, less some jitter."""

_MAX_SAID = 400
"""Characters of an error on the console."""

Step = Callable[[], float]
"""One round. It returns the seconds until the next one."""


def every(seconds: float, *work: Callable[[], object]) -> Step:
    """The step that calls these functions, one after the other, every so many seconds."""

    def step() -> float:
        for one in work:
            one()
        return seconds

    return step


def start_loop(
    name: str,
    step: Step,
    *,
    delay: float = 0.0,
    stop: threading.Event | None = None,
    end: Callable[[BaseException], object] | None = None,
) -> None:
    """Do rounds in a thread of its own until `stop` is set, which `step` may do itself.

    A round that raises anything is one line on the console, a pause, and another round.

    Args:
        name: of the thread, and of the work in that line ("the watch of clocks").
        step: one round.
        delay: seconds before the first round.
        stop: ends the thread, also in a pause.
        end: for work without which the program must not go on. It gets what a round raised, and
            ends the process.
    """
    ended = stop or threading.Event()
    arguments = (name, step, ended, delay, end)
    threading.Thread(target=run_loop, args=arguments, name=name, daemon=True).start()


def run_loop(
    name: str,
    step: Step,
    stop: threading.Event,
    delay: float = 0.0,
    end: Callable[[BaseException], object] | None = None,
    *,
    say: Callable[[str], None] = say_on_console,
    jitter: Callable[[], float] = random.random,
) -> None:
    """The thread's work. `jitter` gives numbers from 0 to 1."""
    pause, seconds = FIRST_PAUSE, delay
    while not stop.wait(seconds):
        try:
            seconds = step()
            pause = FIRST_PAUSE
        except BaseException as error:  # also SystemExit, which would end this thread unseen
            if end is not None:
                end(error)
            seconds = pause * (0.5 + jitter() / 2)
            pause = min(pause * 2, MAX_PAUSE)
            with suppress(BaseException):  # a console that is gone ends no work
                said = describe(error).rstrip(".")
                say(f"{name} failed: {said}; again in {seconds:.1f} s")


def describe(error: BaseException) -> str:
    """An error in few words: of our own errors what they say, of others only the type.

    The message of another error could quote what has to stay secret.
    """
    with suppress(Exception):  # an error that is made of odd parts cannot say what it is
        if isinstance(error, ConfideError):
            return str(error)[:_MAX_SAID]
    return type(error).__name__
