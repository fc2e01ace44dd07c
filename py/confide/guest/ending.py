"""How a machine ends by a rule of ours: its program says why and ends, and its unit powers off.

A machine ends, and its operator starts it anew, because nothing of one mesh or of one time may
reach another: engines, caches and keys all live as long as the machine.
"""

from __future__ import annotations

import os
from typing import NoReturn

from confide.encoding.console import say


class MachineEndsError(Exception):
    """A rule says that this machine ends. The text says which one, for the console."""


def end_machine(error: MachineEndsError) -> NoReturn:
    """Say why, and end this process. `net.server` ends the program then, and the unit the machine.

    Not by an exception: it would end one thread only.
    """
    say(f"this machine ends: {error}")
    os._exit(1)
