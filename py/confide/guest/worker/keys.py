"""What this worker opens requests with: its own keys, shares of clients, and replay windows.

Rules of this module:

* A request opens only with both secrets: K_w, which a secret service released, and the share,
  which was sealed to this worker's KEM key.
* A share dies with its KEM key, and K_w when the client's key ends.
* The window of a key outlives both: it is there until no request that was opened under the key can
  be opened again. So neither a turned clock nor a second release of the key opens one twice.
* What is remembered is bounded per key, and only requests that have opened add to it. Times are
  monotonic seconds, because the host sets the wall clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from hashlib import sha256

from confide.errors import PolicyError, UnavailableError
from confide.guest.mesh.kem import KemKeys, LivingKey
from confide.guest.worker.look_ups import LookUps
from confide.guest.worker.replay import ReplayWindow
from confide.protocol.sealed import OpenedRequest, RequestHeaders, SealedRequest
from confide.protocol.secret_service import ReleasedKey
from confide.protocol.share import open_share

MAX_KEYS = 10_000

MAX_SHARES = 4
"""Shares that are remembered per key. A client has one, and two when a leaf is renewed."""


class _Key:
    """One client's key at this worker. Thread-safe."""

    def __init__(self, released: ReleasedKey, now: float) -> None:
        self.key = released.key
        self.model = released.model
        self.ends = now + released.expires_in
        # Until then a request that was opened may be sent again.
        self.needed = self.ends
        self.used = False
        self.window = ReplayWindow()
        self._shares: dict[bytes, tuple[bytes, float]] = {}
        self._lock = threading.Lock()

    def secret(self, now: float) -> bytes:
        """K_w. Raises PolicyError "unknown-key" from its end on.

        Asked once per request and under the lock: what `forget` leaves behind is no key.
        """
        with self._lock:
            if not self.key or self.ends <= now:
                raise _expired()
            return self.key

    def share(self, sealed_hash: bytes) -> bytes | None:
        with self._lock:
            found = self._shares.get(sealed_hash)
        return found[0] if found else None

    def remember(self, sealed_hash: bytes, share: bytes, dies: float) -> None:
        with self._lock:
            self._shares[sealed_hash] = (share, dies)
            while len(self._shares) > MAX_SHARES:
                del self._shares[next(iter(self._shares))]
            self.needed = max(self.needed, dies)
            self.used = True

    def forget(self, now: float) -> None:
        with self._lock:
            self._shares = {name: share for name, share in self._shares.items() if now < share[1]}
        if self.ends <= now:
            self.key = b""


class Keys:
    """Opens requests. Thread-safe."""

    def __init__(
        self,
        fetch: Callable[[bytes], ReleasedKey],
        kem: KemKeys,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fetch` gets K_w for a key id of 32 bytes; it raises ConfideError. `clock` is `kem`'s."""
        self._fetch = fetch
        self._kem = kem
        self._clock = clock
        self._keys: dict[bytes, _Key] = {}
        self._lock = threading.Lock()
        self._look_ups = LookUps(self._look_up, clock)

    def open(
        self, body: bytes, headers: RequestHeaders, *, method: str, path: str
    ) -> OpenedRequest:
        """Open a sealed request, once.

        Raises PolicyError "unknown-key" or "kem-key-gone" (the client must seal anew),
        "model-not-allowed", "replay"; VerificationError "bad-key-seal", "bad-seal"; FormatError;
        UnavailableError "too-many-look-ups"; and what `fetch` raises.
        """
        sealed = SealedRequest.cut(body)
        living = self._living(sealed.kem_sha256)
        key = self.require(headers)
        # Under the name of its KEM key: the same bytes before another one are another share.
        sealed_hash = sha256(sealed.kem_sha256 + sealed.sealed_share).digest()
        share = key.share(sealed_hash)
        if share is None:
            share = open_share(
                sealed.sealed_share, living.key, manifest_sha256=headers.manifest_sha256
            )
        opened = sealed.open(
            worker_key=key.secret(self._clock()),
            share=share,
            headers=headers,
            method=method,
            path=path,
        )
        with self._lock:
            # A key that was dropped meanwhile has a window that nobody will ask again. And a
            # window outlives the KEM key only: a host may have stopped this thread for longer.
            if self._keys.get(headers.key_id) is not key:
                raise _expired()
            if living.dies <= self._clock():
                raise _gone(sealed.kem_sha256)
            key.remember(sealed_hash, share, living.dies)
        key.window.check(opened.counter)
        return opened

    def require(self, headers: RequestHeaders) -> _Key:
        """The key that these headers name, for their model. Needs no body. Raises as `open`."""
        key = self._get(headers.key_id)
        if headers.model != key.model:
            raise PolicyError(
                "model-not-allowed",
                "the key of this request is not for this model",
                expected=key.model,
                seen=headers.model,
            )
        return key

    def forget(self) -> None:
        """Drop what has ended. Called each second, so that nothing lives on because nobody asks."""
        now = self._clock()
        with self._lock:
            self._keys = {name: key for name, key in self._keys.items() if now < key.needed}
            kept = list(self._keys.values())
        for key in kept:
            key.forget(now)

    def _living(self, kem_sha256: bytes) -> LivingKey:
        living = self._kem.find(kem_sha256)
        if living is None:
            raise _gone(kem_sha256)
        return living

    def _get(self, key_id: bytes) -> _Key:
        # Several requests usually bring the same new key at once.
        key = self._known(key_id) or self._look_ups.get(key_id)
        key.secret(self._clock())
        return key

    def _look_up(self, key_id: bytes) -> _Key:
        key = self._known(key_id)  # an earlier look-up may have brought it a moment ago
        if key is None:
            # Before, because the host may hold up the answer.
            asked = self._clock()
            key = _Key(self._fetch(key_id), asked)
            self._remember(key_id, key)
        return key

    def _known(self, key_id: bytes) -> _Key | None:
        with self._lock:
            return self._keys.get(key_id)

    def _remember(self, key_id: bytes, key: _Key) -> None:
        with self._lock:
            if len(self._keys) >= MAX_KEYS:
                # Keys cost nothing, so those that have opened a request stay before the others.
                unused = next((name for name, key in self._keys.items() if not key.used), None)
                if unused is not None:
                    del self._keys[unused]
            if len(self._keys) >= MAX_KEYS:
                raise UnavailableError(
                    "too-many-keys",
                    "this worker holds as many keys as it can",
                    expected=f"at most {MAX_KEYS}",
                    next="try again later",
                )
            self._keys[key_id] = key


def _gone(kem_sha256: bytes) -> PolicyError:
    return PolicyError(
        "kem-key-gone",
        "this worker does not have the KEM key of the request, or has it no more",
        seen=kem_sha256.hex(),
        next="fetch the list of workers again and seal the request anew",
    )


def _expired() -> PolicyError:
    return PolicyError(
        "unknown-key", "the key of this request has expired", next="exchange a new key"
    )
