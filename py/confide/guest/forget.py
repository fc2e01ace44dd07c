"""What must be forgotten is forgotten in time, also on a machine that nobody asks anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FORGET_SECONDS = 1.0


def forget_each_second(*forget: Callable[[], None]) -> None:
    """Call these functions each second, in a thread, until the process ends."""

    def run() -> None:
        while True:
            time.sleep(FORGET_SECONDS)
            for step in forget:
                step()

    threading.Thread(target=run, name="forget", daemon=True).start()
