"""Look-ups of keys that this worker does not have yet: each is a TLS handshake, and anybody asks.

* One look-up for each id at a time, under no lock. Who asks for the same id meanwhile waits for it.
* There are PLACES. One that finds a key leaves its place at once. One that finds none keeps it for
  REST_SECONDS. So made-up ids cost at most PLACES / REST_SECONDS handshakes a second, and requests
  under known keys never come here.
* While it keeps its place, an id that each secret service has denied is denied from memory. That
  keeps no good key out: an id is made from the key by HKDF, so nobody can name it before the client
  has sent the key, and the client names it after a secret service has taken it. If one of them does
  not answer, its key may be there, and nothing is remembered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from confide.errors import PolicyError, UnavailableError
from confide.guest.secret_service.client import DeniedError

PLACES = 64
"""A secret service that hangs holds each of its look-ups for a minute, so there are many."""

REST_SECONDS = 2.0

T = TypeVar("T")


class LookUps(Generic[T]):
    """Calls `look_up` with ids of 32 bytes. Thread-safe. `clock` gives seconds that only grow."""

    def __init__(self, look_up: Callable[[bytes], T], clock: Callable[[], float]) -> None:
        self._look_up = look_up
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[bytes, Future[T]] = {}
        # Places that rest: until when, and what each secret service has said of this id.
        self._resting: dict[bytes, tuple[float, DeniedError | None]] = {}

    def get(self, key_id: bytes) -> T:
        """What `look_up` returns for this id.

        Raises UnavailableError "too-many-look-ups" if there is no place, and what `look_up` raises.
        """
        with self._lock:
            running = self._running.get(key_id)
            if running is None:
                self._take_place(key_id)
                mine: Future[T] = Future()
                self._running[key_id] = mine
        if running is not None:
            return running.result()
        try:
            found = self._look_up(key_id)
        except BaseException as error:
            # Whatever it is: others wait for it.
            self._leave(key_id, error)
            mine.set_exception(error)
            raise
        self._leave(key_id, None)
        mine.set_result(found)
        return found

    def _take_place(self, key_id: bytes) -> None:
        """Raise if this id was denied a moment ago, or no place is free. Needs the lock."""
        now = self._clock()
        self._resting = {name: rest for name, rest in self._resting.items() if now < rest[0]}
        _, error = self._resting.get(key_id, (0.0, None))
        if error is not None:  # anew, because several threads raise it
            raise PolicyError(error.code, error.message, expected=error.expected, seen=error.seen)
        if len(self._running) + len(self._resting) >= PLACES:
            raise UnavailableError(
                "too-many-look-ups",
                "this worker looks up as many new keys as it can",
                expected=f"at most {PLACES} at once",
                next="try again in a moment",
            )

    def _leave(self, key_id: bytes, error: BaseException | None) -> None:
        with self._lock:
            del self._running[key_id]
            if isinstance(error, PolicyError):
                denied = error if isinstance(error, DeniedError) else None
                self._resting[key_id] = (self._clock() + REST_SECONDS, denied)
