"""Single-use challenges: a joining node must show evidence made after it asked."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable

from confide.errors import UnavailableError, VerificationError

LIFETIME = 120
"""Seconds. Emulated machines take several for a quote; nothing honest takes minutes."""

LIMIT = 4096
"""Open challenges at most: anybody may ask for one, so their memory is bounded."""


class Challenges:
    """Issues 32-byte nonces and redeems each at most once, within its lifetime. Thread-safe.

    `clock` is monotonic seconds, so that a host which turns the time of day cannot revive a nonce.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._expiry: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def issue(self) -> bytes:
        """A fresh nonce. Raises UnavailableError while `LIMIT` unexpired ones are open."""
        nonce = secrets.token_bytes(32)
        now = self._clock()
        with self._lock:
            self._drop_expired(now)
            if len(self._expiry) >= LIMIT:
                raise UnavailableError(
                    "too-many-challenges",
                    "too many challenges are open",
                    expected=f"fewer than {LIMIT}",
                    next=f"try again in {LIFETIME} seconds",
                )
            self._expiry[nonce] = now + LIFETIME
        return nonce

    def redeem(self, nonce: bytes) -> None:
        """Use up a nonce. Raises VerificationError if it is unknown, used or expired."""
        with self._lock:
            expiry = self._expiry.pop(nonce, None)
        if expiry is None or expiry <= self._clock():
            raise VerificationError(
                "stale-nonce",
                "the evidence answers no open challenge",
                expected=f"a nonce of this coordinator, unused and younger than {LIFETIME} s",
                next="ask for a new challenge and make new evidence",
            )

    def _drop_expired(self, now: float) -> None:
        for nonce in [n for n, expiry in self._expiry.items() if expiry <= now]:
            del self._expiry[nonce]
