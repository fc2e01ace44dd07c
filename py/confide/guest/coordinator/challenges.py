"""Challenges: a joining node shows evidence made after it asked, and uses a challenge once.

Anyone may ask for a challenge, so a challenge takes no memory: it holds its own time, under a MAC
that only this process can make. Only used challenges are kept until they are stale. Each of those
cost a genuine machine a new report.
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
"""Seconds. An emulated machine takes several for a quote; no honest one takes minutes."""

_TIME_SIZE = 8
_RANDOM_SIZE = 8
_MAC_SIZE = NONCE_SIZE - _TIME_SIZE - _RANDOM_SIZE


class Challenges:
    """Makes challenges of 32 bytes: time (u64be, milliseconds) ‖ 8 random bytes ‖ MAC.

    The MAC is HMAC-SHA256 cut to 16 bytes (RFC 2104, section 5), under a key made with the object.
    `clock` gives monotonic seconds, so a host that sets the time of day cannot revive a challenge.
    Thread-safe.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._used: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def issue(self) -> bytes:
        """A new challenge."""
        made = int(self._clock() * 1000).to_bytes(_TIME_SIZE)
        body = made + secrets.token_bytes(_RANDOM_SIZE)
        return body + self._mac(body)

    def check(self, challenge: bytes) -> None:
        """Raise VerificationError unless this process made the challenge, within `LIFETIME`."""
        body, mac = challenge[:-_MAC_SIZE], challenge[-_MAC_SIZE:]
        if not hmac.compare_digest(mac, self._mac(body)) or self._clock() >= _end(challenge):
            raise _stale()

    def use(self, challenge: bytes) -> None:
        """Note that a machine used a challenge that `check` accepted.

        Raises VerificationError if it was used before, or has become stale since.
        """
        with self._lock:
            now = self._clock()
            self._used = {used: end for used, end in self._used.items() if end > now}
            # Whether a stale one was used is not known any more.
            if challenge in self._used or now >= _end(challenge):
                raise _stale()
            self._used[challenge] = _end(challenge)

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")[:_MAC_SIZE]


def _end(challenge: bytes) -> float:
    """The monotonic time at which a challenge becomes stale."""
    return int.from_bytes(challenge[:_TIME_SIZE]) / 1000 + LIFETIME


def _stale() -> VerificationError:
    return VerificationError(
        "stale-nonce",
        "the evidence does not answer an open challenge",
        expected=f"a nonce of this coordinator, unused and younger than {LIFETIME} s",
        next="ask for a new challenge and make new evidence",
    )
