"""Inference keys in the worker's RAM: each is fetched once and used until it expires.

An expired key stays known for GRACE_SECONDS. Otherwise a worker whose clock is a little ahead of
the secret service's would forget the key with its salts, fetch it again, and run a replay. Times
are monotonic seconds, because the host sets the wall clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from confide.errors import PolicyError, UnavailableError
from confide.guest.worker.replay import ReplayGuard
from confide.protocol.sealed import OpenedRequest, RequestOpener
from confide.protocol.secret_service import ReleasedKey

GRACE_SECONDS = 120
MAX_KEYS = 10_000


class _CachedKey:
    def __init__(self, key_id: bytes, fetched: ReleasedKey, now: float) -> None:
        self.opener = RequestOpener(fetched.key, key_id)
        self.models = frozenset(fetched.models)
        self.ends = now + fetched.expires_in
        self.forgotten = self.ends + GRACE_SECONDS


class Keys:
    """Opens requests under the keys of the secret service. Thread-safe."""

    def __init__(
        self,
        fetch: Callable[[bytes], ReleasedKey],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fetch` gets a key by its id of 32 bytes. It raises ConfideError."""
        self._fetch = fetch
        self._clock = clock
        self._guard = ReplayGuard()
        self._keys: dict[bytes, _CachedKey] = {}
        self._lock = threading.Lock()
        self._fetching = threading.Lock()

    def open(
        self, sealed: bytes, *, key_id: bytes, method: str, path: str, model: str
    ) -> OpenedRequest:
        """Open a sealed request, once.

        Raises PolicyError "unknown-key" (the client must exchange a new one), "model-not-allowed",
        "replay"; VerificationError "bad-seal"; FormatError; and what `fetch` raises.
        """
        key = self._get(key_id)
        if model not in key.models:
            raise PolicyError(
                "model-not-allowed",
                "the key of this request is not for this model",
                expected=" or ".join(sorted(key.models)),
                seen=model,
            )
        opened = key.opener.open(sealed, method=method, path=path, model=model)
        self._guard.check(key_id, opened.salt, expires=int(key.forgotten), now=int(self._clock()))
        return opened

    def _get(self, key_id: bytes) -> _CachedKey:
        key = self._known(key_id)
        if key is None:
            # One at a time: several requests usually bring the same new key at once.
            with self._fetching:
                key = self._known(key_id)
                if key is None:
                    key = _CachedKey(key_id, self._fetch(key_id), self._clock())
                    self._remember(key_id, key)
        if key.ends <= self._clock():
            raise PolicyError(
                "unknown-key", "the key of this request has expired", next="exchange a new key"
            )
        return key

    def _known(self, key_id: bytes) -> _CachedKey | None:
        now = self._clock()
        with self._lock:
            for old in [known for known, key in self._keys.items() if key.forgotten <= now]:
                del self._keys[old]
            return self._keys.get(key_id)

    def _remember(self, key_id: bytes, key: _CachedKey) -> None:
        with self._lock:
            if len(self._keys) >= MAX_KEYS:
                raise UnavailableError(
                    "too-many-keys",
                    "this worker holds as many keys as it can",
                    expected=f"at most {MAX_KEYS}",
                    next="try again later",
                )
            self._keys[key_id] = key
