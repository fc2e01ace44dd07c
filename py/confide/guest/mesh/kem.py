"""A node's KEM private keys: a new one for each certificate, and each dies by a clock.

A recorder of traffic may read this machine's memory one day. Whatever was sealed to a key that is
gone stays closed then. So a key lives 3,900 s of monotonic time from when its certificate was asked
for: an hour in which clients seal to it, and five minutes for clocks and requests on their way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from confide.protocol.certificates import BACKDATE, LEAF_LIFETIME
from confide.protocol.kem import KemPrivateKey

KEM_LIFETIME = LEAF_LIFETIME + BACKDATE
"""Seconds: 3,900."""


@dataclass(frozen=True)
class LivingKey:
    """A private key, and when it dies (monotonic seconds)."""

    key: KemPrivateKey
    dies: float


class KemKeys:
    """At most two private keys: the certified one, and the one before it or after it. Thread-safe.

    `monotonic` gives seconds that only grow.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        # By the SHA-256 of the public key, the oldest first.
        self._keys: dict[bytes, LivingKey] = {}

    def fresh(self) -> KemPrivateKey:
        """A new key for the next certificate. Of the others, only the newest certified one stays.

        Each attempt to join has a key of its own: a host that hides the answers must not make one
        key live for as long as it likes, with many certificates that name it.
        """
        with self._lock:
            self._keys = dict(list(self._keys.items())[-1:])
        self.forget()
        return KemPrivateKey.generate()

    def certified(self, key: KemPrivateKey, *, issued: float) -> None:
        """A certificate names `key`. It was asked for at `issued` (monotonic seconds)."""
        with self._lock:
            self._keys[key.sha256] = LivingKey(key, issued + KEM_LIFETIME)

    def find(self, kem_sha256: bytes) -> LivingKey | None:
        """The key whose public key has this SHA-256 (32 bytes), None if it is dead or unknown."""
        with self._lock:
            found = self._keys.get(kem_sha256)
        return found if found is not None and self._monotonic() < found.dies else None

    def forget(self) -> None:
        """Drop the dead keys. Called each second, so that none lives on because nobody asks."""
        now = self._monotonic()
        with self._lock:
            self._keys = {name: key for name, key in self._keys.items() if now < key.dies}
