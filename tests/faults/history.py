"""What was broken, and when: the ground on which requests are judged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

Link = tuple[str, str]
Thing = str | Link
"""A program's name, "disk of NAME", or a link from a program to another one."""

NOTICE_SECONDS = 8.0
"""How long after a repair its neighbours may take to notice: looks, and TCP's own backing off.

The latter takes as long again as the fault did.
"""


@dataclass
class Fault:
    """A time in which something was broken, in monotonic seconds; it goes on while `ended` is None.

    `since` is from when its effects count, `until` how long they do.
    """

    thing: Thing
    since: float
    ended: float | None = None

    @property
    def until(self) -> float:
        if self.ended is None:
            return float("inf")
        return self.ended + NOTICE_SECONDS + (self.ended - self.since)

    def touches(self, began: float, ended: float, *, at_once: bool = False) -> bool:
        """Whether it may have an effect on what ran from `began` to `ended`.

        `at_once`: leave out the time in which the neighbours notice the repair.
        """
        end = (float("inf") if self.ended is None else self.ended) if at_once else self.until
        return self.since <= ended and began <= end


class History:
    """All faults so far. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self.meshes: list[float] = []
        """When each mesh after the first one began."""

    def breaks(self, thing: Thing) -> None:
        """From now on it is broken."""
        with self._lock:
            if not any(f.thing == thing and f.ended is None for f in self._faults):
                self._faults.append(Fault(thing, self._clock()))

    def works(self, thing: Thing) -> None:
        """From now on it works."""
        with self._lock:
            for fault in self._faults:
                if fault.thing == thing and fault.ended is None:
                    fault.ended = self._clock()

    def new_mesh(self) -> None:
        """From now on the coordinator has another mesh."""
        with self._lock:
            self.meshes.append(self._clock())

    def is_calm(self, thing: Thing, began: float, ended: float) -> bool:
        """Whether nothing was wrong with it in this time, nor shortly before."""
        return not any(f.thing == thing and f.touches(began, ended) for f in self._faults)

    def was_broken(self, thing: Thing, began: float, ended: float) -> bool:
        """Whether it was broken at some moment of this time."""
        return any(f.thing == thing and f.touches(began, ended, at_once=True) for f in self._faults)
