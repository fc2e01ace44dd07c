"""Progress on standard error: bytes, rate and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

TERMINAL_SECONDS, LOG_SECONDS = 0.5, 10.0


Progress = Callable[[int], None]
"""Called with the number of bytes since the last call."""


class Meter:
    """A Progress that rewrites one line of a terminal, or adds a line to a log every 10 s."""

    def __init__(
        self,
        what: str,
        total: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._total, self._clock = what, total, clock
        self._stream = stream or sys.stderr
        self._done = 0
        self._start = self._shown = clock()
        self._terminal = self._stream.isatty()

    def __call__(self, count: int) -> None:
        """Count bytes, and show the state if enough time has passed."""
        self._done += count
        now = self._clock()
        wait = TERMINAL_SECONDS if self._terminal else LOG_SECONDS
        if now - self._shown >= wait or (self._done == self._total and self._terminal):
            self._shown = now
            line = self.line(now - self._start)
            last = "\n" if self._done == self._total else ""
            text = f"\r{line}\x1b[K{last}" if self._terminal else f"{line}\n"
            self._stream.write(text)
            self._stream.flush()

    def line(self, seconds: float) -> str:
        """The state after `seconds`."""
        rate = self._done / max(seconds, 1e-9)
        left = (self._total - self._done) / max(rate, 1e-9)
        share = 100 * self._done // max(self._total, 1)
        return (
            f"{self._what}: {self._done / 1e9:.2f} of {self._total / 1e9:.2f} GB ({share} %), "
            f"{rate / 1e6:.0f} MB/s, {_duration(left)} left"
        )


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
