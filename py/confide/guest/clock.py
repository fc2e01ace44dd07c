"""This machine's time of day, for as long as it is one clock.

The host sets the time of day when the machine starts, and may make it go fast or slow afterwards
(not on TDX). There is no time service. What a machine can see for itself is that its time of day
was *set* while it ran: then it goes back, or parts from the clock that only counts. What was issued
at a time that has been turned away could be shown again when that time comes, so the machine ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NoReturn

from confide.guest.ending import MachineEndsError, end_machine, without
from confide.net.loops import every, start_loop
from confide.protocol.validity import CLOCK_TOLERANCE

WATCH_SECONDS = 1.0
"""Between two looks of the watcher. Each use of the clock is a look as well."""


class WallClock:
    """Call it like time.time: unix seconds. It ends the machine if the clock was turned.

    `now` gives unix seconds, `monotonic` seconds that only grow. `end` never returns. Thread-safe.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        end: Callable[[MachineEndsError], NoReturn] = end_machine,
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._end = end
        self._latest = now()
        self._offset = self._latest - monotonic()
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Unix seconds."""
        # One reading at a time: two threads that change places would look like a clock that
        # goes back.
        with self._lock:
            now, latest = self._now(), self._latest
            parted = now - self._monotonic() - self._offset
            self._latest = now
        if now < latest:
            self._end(MachineEndsError(f"its clock was turned back by {latest - now:.3f} s"))
        if abs(parted) > CLOCK_TOLERANCE:
            self._end(
                MachineEndsError(
                    f"its clock has gone {parted:+.0f} s against the clock that counts its run "
                    f"(at most {CLOCK_TOLERANCE} s)"
                )
            )
        return now

    def watch(self) -> None:
        """Look every second from now on, in a thread. The machine ends if it cannot."""
        name = "the watch of its clock"
        start_loop(name, every(WATCH_SECONDS, self), end=without(name, self._end))


def watched_clock() -> WallClock:
    """This machine's clock, watched: for the program of a role."""
    clock = WallClock()
    clock.watch()
    return clock
