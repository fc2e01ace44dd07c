"""The clock that goes on while a computer sleeps."""

from __future__ import annotations

import time

# On macOS the monotonic clock goes on while the machine sleeps; on Linux only this one does.
_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_seconds() -> float:
    """Seconds since boot, time asleep included."""
    return time.clock_gettime(_BOOT_CLOCK)
