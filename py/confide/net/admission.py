"""How much a program takes on: requests at once, by what the machine carries, and bytes of bodies.

Nothing waits for a place. A request that gets none is refused at once, with the time after which
to come again, while those inside run on.

What a machine carries is measured while it works: a thread asks to be woken in 10 ms, and looks
how much later it runs. Each event of each stream waits that long too, whatever the reason: this
process, another one, or the host.
"""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

from confide.errors import UnavailableError
from confide.net.loops import start_loop

TICK_SECONDS = 0.01
SMOOTHING = 0.1
"""Weight of one tick in the mean: what was measured 0.2 s ago weighs an eighth."""

MAX_LAG = 0.03
"""Seconds of delay from which on no more is admitted."""

ALWAYS = 64
"""Requests that are admitted whatever was measured. A slow machine has to serve too."""

MIN_MEMORY = 128 << 20
"""Bytes that the machine has to have free for one more."""

_MEMORY_SECONDS = 1.0


def free_memory(path: Path = Path("/proc/meminfo")) -> float:
    """Bytes that programs can still get (proc_meminfo(5), MemAvailable); inf if unknown."""
    try:
        for line in path.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return math.inf


class Pulse:
    """Measures how late this process runs, while somebody wants to know. Thread-safe."""

    def __init__(self) -> None:
        self.memory = math.inf
        """Bytes that were free a second ago."""
        self._lag = 0.0
        self._due = math.inf
        self._wanted = threading.Event()
        self._started = False
        self._looked = -math.inf

    def want(self, wanted: bool) -> None:
        """Measure from now on, or stop. Cheap if nothing changes."""
        if wanted == self._wanted.is_set():
            return
        if not wanted:
            self._wanted.clear()
            return
        self._wanted.set()
        if not self._started:
            self._started = True
            start_loop("the measuring of delays", self._tick)

    @property
    def lag(self) -> float:
        """Seconds by which what is due runs late: the mean of late ticks, or the present one."""
        return max(self._lag, time.monotonic() - self._due)

    def _tick(self) -> float:
        if not self._wanted.is_set():
            self._lag, self._due = 0.0, math.inf
            self._wanted.wait()
        self._due = time.monotonic() + TICK_SECONDS
        time.sleep(TICK_SECONDS)
        now = time.monotonic()
        self._lag += SMOOTHING * (now - self._due - self._lag)
        if now - self._looked >= _MEMORY_SECONDS:
            self.memory, self._looked = free_memory(), now
        return 0.0


class Admission:
    """Counts what runs at once. Thread-safe."""

    def __init__(self, most: int, pulse: Pulse | None = None) -> None:
        """At most `most` at once; fewer while `pulse` says that the machine is at its limit."""
        self._most = most
        self._pulse = pulse
        self._count = 0
        self._lock = threading.Lock()

    def enter(self) -> str:
        """Take a place. Returns "" with one, else the reason for the refusal."""
        with self._lock:
            reason = self._reason()
            if not reason:
                self._count += 1
                self._measure()
        return reason

    def leave(self) -> None:
        """Give the place back."""
        with self._lock:
            self._count -= 1
            self._measure()

    def _reason(self) -> str:
        if self._count >= self._most:
            return f"{self._most} at once"
        if self._pulse is None or self._count < ALWAYS:
            return ""
        if self._pulse.lag > MAX_LAG:
            return f"{self._count} at once, and a delay of {self._pulse.lag * 1000:.0f} ms"
        if self._pulse.memory < MIN_MEMORY:
            return f"{self._count} at once, and {self._pulse.memory / (1 << 20):.0f} MiB free"
        return ""

    def _measure(self) -> None:
        if self._pulse is not None:
            self._pulse.want(2 * self._count >= ALWAYS)


class Bodies:
    """Counts the bytes of bodies that are held at once. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Make room for so many bytes. Raises UnavailableError "busy"."""
        with self._lock:
            if self._held + size > self._most:
                raise busy(f"{self._held} bytes of other requests")
            self._held += size

    def give(self, size: int) -> None:
        """They are no longer held."""
        with self._lock:
            self._held -= size


def busy(reason: str) -> UnavailableError:
    """The error for a request that there is no room for."""
    return UnavailableError(
        "busy",
        "the program has as much work as it can carry",
        seen=reason,
        next="send the request again later",
    )
