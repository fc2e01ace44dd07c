"""Remembers which requests of a key were opened, so that none is opened twice.

The memory is a window of 4,096 counters per key: 512 bytes, whatever a client sends.
"""

from __future__ import annotations

import threading

from confide.errors import PolicyError

WINDOW = 4096

_MASK = (1 << WINDOW) - 1


class ReplayWindow:
    """The counters of one key at this worker. Thread-safe."""

    def __init__(self) -> None:
        self._highest = -1
        self._seen = 0
        self._lock = threading.Lock()

    def check(self, counter: int) -> None:
        """Remember a counter (0 to 2^64-1). Call it after the request has opened.

        So only holders of the key move the window. Raises PolicyError "replay" if the counter was
        seen, or is 4,096 or more below the highest one.
        """
        with self._lock:
            ahead = counter - self._highest
            if ahead > 0:
                # Bit i is the counter `highest - i`.
                self._seen = (self._seen << ahead | 1) & _MASK if ahead < WINDOW else 1
                self._highest = counter
                return
            behind = min(-ahead, WINDOW)
            bit = 1 << behind
            if behind == WINDOW or self._seen & bit:
                raise PolicyError(
                    "replay",
                    "this request was sent before, or is far behind others of its key",
                    expected=f"a new counter above {self._highest - WINDOW}",
                    seen=str(counter),
                    next="seal the request again",
                )
            self._seen |= bit
