"""What must be forgotten is forgotten in time, also on a machine that nobody asks anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from confide.guest.ending import MachineEndsError, end_machine, without
from confide.net.loops import every, start_loop

FORGET_SECONDS = 1.0


def forget_each_second(
    *forget: Callable[[], None], end: Callable[[MachineEndsError], NoReturn] = end_machine
) -> None:
    """Call these functions each second, in a thread, for as long as the program runs.

    The machine ends if one of them fails: its keys would stay. `end` is for tests.
    """
    name = "the forgetting of keys"
    start_loop(name, every(FORGET_SECONDS, *forget), end=without(name, end))
