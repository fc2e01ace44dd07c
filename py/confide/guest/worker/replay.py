"""Remembers the salts of requests, so that no request runs twice.

Fail closed: when the memory for salts is full, requests are refused. No salt is forgotten early.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from confide.errors import PolicyError, UnavailableError

MAX_SALTS = 1_000_000


@dataclass
class _KeyMemory:
    expires: float
    salts: set[bytes] = field(default_factory=set)


class ReplayGuard:
    """Salts per key id until the key expires: about 100 bytes each, `max_salts` in total.

    A worker machine has one guard, in the process that opens requests. Thread-safe.
    """

    def __init__(self, max_salts: int = MAX_SALTS) -> None:
        self._max_salts = max_salts
        self._count = 0
        self._keys: dict[bytes, _KeyMemory] = {}
        self._lock = threading.Lock()

    def check(self, key_id: bytes, salt: bytes, *, expires: float, now: float) -> None:
        """Remember `salt`. Call it after the request has opened, so that only holders of the key
        can fill the memory.

        `expires` is the key's end and `now` the time, in seconds of time.monotonic, because the
        host sets the other clock. Raises PolicyError "replay" if the salt was seen, "unknown-key"
        if the key has expired, and UnavailableError "replay-memory-full".
        """
        with self._lock:
            self._forget(now)
            if expires <= now:
                raise PolicyError(
                    "unknown-key", "the inference key has expired", next="exchange a new key"
                )
            if self._count >= self._max_salts:
                raise UnavailableError(
                    "replay-memory-full",
                    "this worker cannot remember more requests",
                    expected=f"at most {self._max_salts} per key lifetime",
                    next="try again later or at another worker",
                )
            memory = self._keys.setdefault(key_id, _KeyMemory(expires))
            if salt in memory.salts:
                raise PolicyError(
                    "replay",
                    "this request was sent before",
                    next="seal the request again, with a fresh salt",
                )
            # Never earlier than before: a shorter lifetime must not free salts early.
            memory.expires = max(memory.expires, expires)
            memory.salts.add(salt)
            self._count += 1

    def _forget(self, now: float) -> None:
        for key_id in [k for k, memory in self._keys.items() if memory.expires <= now]:
            self._count -= len(self._keys.pop(key_id).salts)
