"""How a machine ends by a rule of ours: its program says why and ends, and its unit powers off.

A machine ends, and its operator starts it anew, because nothing of one mesh or of one time may
reach another: engines, caches and keys all live as long as the machine.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import NoReturn

from confide.encoding.console import say

SAY_SECONDS = 5
"""The host may leave the console full. A machine that has to end waits so long for its line."""


class MachineEndsError(Exception):
    """A rule says that this machine ends. The text says which one, for the console."""


def end_machine(error: MachineEndsError) -> NoReturn:
    """Say why, and end this process. `net.server` ends the program then, and the unit the machine.

    Not by an exception: it would end one thread only.
    """
    # The kernel keeps this time, and ends the process by its default action.
    signal.alarm(SAY_SECONDS)
    try:
        say(f"this machine ends: {error}")
    finally:
        os._exit(1)


def without(
    work: str, end: Callable[[MachineEndsError], NoReturn] | None = None
) -> Callable[[BaseException], NoReturn]:
    """For `net.loops`: the machine ends by a rule of the loop, or because this work failed.

    Of an error only the type is shown: a message could quote what has to stay secret. `end` is for
    tests.
    """

    def ended(error: BaseException) -> NoReturn:
        if not isinstance(error, MachineEndsError):
            error = MachineEndsError(f"{work} failed: {type(error).__name__}")
        (end or end_machine)(error)

    return ended
