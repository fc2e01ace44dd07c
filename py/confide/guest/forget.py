"""What must be forgotten is forgotten in time, also on a machine that nobody asks anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NoReturn

from confide.guest.ending import MachineEndsError, end_machine

FORGET_SECONDS = 1.0


def forget_each_second(*forget: Callable[[], None]) -> None:
    """Call these functions each second, in a thread, for as long as the program runs.

    The machine ends if one of them fails: its keys would stay.
    """
    threading.Thread(target=run, args=(forget,), name="forget", daemon=True).start()


def run(
    forget: tuple[Callable[[], None], ...],
    *,
    sleep: Callable[[float], None] = time.sleep,
    end: Callable[[MachineEndsError], NoReturn] = end_machine,
) -> NoReturn:
    """The thread's work. `sleep` and `end` are for tests."""
    try:
        while True:
            sleep(FORGET_SECONDS)
            for step in forget:
                step()
    except Exception as error:
        # Only the type: a message could quote what has to be forgotten.
        end(MachineEndsError(f"keys cannot be forgotten: {type(error).__name__}"))
