"""Challenges: a joining node must show evidence made after it asked, and is admitted on it once.

Anybody may ask for a challenge, so asking leaves nothing behind: a challenge says itself when it
was made, under a MAC that only this process can make. What is kept, until they are stale, are those
on which a machine was admitted: each of them took a genuine machine's fresh report.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable

from confide.errors import VerificationError
from confide.protocol.binding import NONCE_SIZE

LIFETIME = 120
"""Seconds. Emulated machines take several for a quote; nothing honest takes minutes."""

_TIME_SIZE = 8
_RANDOM_SIZE = 8
_MAC_SIZE = NONCE_SIZE - _TIME_SIZE - _RANDOM_SIZE


class Challenges:
    """Makes challenges of 32 bytes: time (u64be, milliseconds) ‖ 8 random bytes ‖ MAC.

    The MAC is HMAC-SHA256, of which 16 bytes are left (RFC 2104, section 5), under a key that is
    made with the object. `clock` is monotonic seconds, so that a host which turns the time of day
    cannot revive a challenge. Thread-safe.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._used: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def issue(self) -> bytes:
        """A fresh challenge."""
        made = int(self._clock() * 1000).to_bytes(_TIME_SIZE)
        body = made + secrets.token_bytes(_RANDOM_SIZE)
        return body + self._mac(body)

    def check(self, challenge: bytes) -> None:
        """Raises VerificationError unless this is a challenge of ours, younger than `LIFETIME`."""
        body, mac = challenge[:-_MAC_SIZE], challenge[-_MAC_SIZE:]
        if not hmac.compare_digest(mac, self._mac(body)) or self._clock() >= _end(challenge):
            raise _stale()

    def use(self, challenge: bytes) -> None:
        """Note that a machine is admitted on a challenge which `check` let pass.

        Raises VerificationError if one was admitted on it already, or it has become stale since.
        """
        with self._lock:
            now = self._clock()
            self._used = {used: end for used, end in self._used.items() if end > now}
            # Of a stale one nobody knows any more whether it was used.
            if challenge in self._used or now >= _end(challenge):
                raise _stale()
            self._used[challenge] = _end(challenge)

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_MAC_SIZE]


def _end(challenge: bytes) -> float:
    """When a challenge becomes stale, by the monotonic clock."""
    return int.from_bytes(challenge[:_TIME_SIZE]) / 1000 + LIFETIME


def _stale() -> VerificationError:
    return VerificationError(
        "stale-nonce",
        "the evidence answers no open challenge",
        expected=f"a nonce of this coordinator, unused and younger than {LIFETIME} s",
        next="ask for a new challenge and make new evidence",
    )
