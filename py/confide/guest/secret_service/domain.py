"""The secret service: clients' inference keys, in RAM, for attested workers only.

Rules of this module:

* Keys arrive sealed to this process's KEM key, which a mesh certificate names. They leave only to a
  peer whose verified mesh certificate names a worker with a model that the key allows.
* A key lives at most an hour from when the client made it. A second message with the same id is
  refused while the first key exists: a client's key cannot be replaced.
* Nothing is written or logged. All keys end with the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from confide.errors import PolicyError, UnavailableError
from confide.protocol.certificates import MeshIdentity
from confide.protocol.keyexchange import KEY_LIFETIME, KemPrivateKey
from confide.protocol.manifest import Manifest
from confide.protocol.roles import WORKERS
from confide.protocol.secret_service import KeyAccepted, ReleasedKey

MAX_KEYS = 65_536
"""Anyone can send keys, so there is a limit: about 40 MB of RAM."""


@dataclass(frozen=True)
class _Stored:
    key: bytes = field(repr=False)
    models: tuple[str, ...]
    ends: float


class SecretService:
    """The key store. Thread-safe. `now` gives unix seconds, `monotonic` seconds that only grow."""

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        max_keys: int = MAX_KEYS,
    ) -> None:
        self._kem = KemPrivateKey.generate()
        self._now = now
        self._monotonic = monotonic
        self._max_keys = max_keys
        self._keys: dict[bytes, _Stored] = {}
        self._lock = threading.Lock()

    @property
    def kem_public_key(self) -> bytes:
        """The key that clients seal their keys to: 1,216 bytes."""
        return self._kem.public_bytes

    def put(self, message: bytes, manifest: Manifest) -> KeyAccepted:
        """Store the key in a sealed key message, made under `manifest`.

        Raises FormatError or VerificationError if it does not open or is stale, PolicyError if its
        models are not in the manifest or its id exists, UnavailableError if the store is full.
        """
        now = int(self._now())
        opened, key_id = self._kem.open_key(message, manifest_sha256=manifest.sha256, now=now)
        if not opened.models:
            raise PolicyError("no-models", "the key names no model", expected="one at least")
        for name in opened.models:
            manifest.model(name)
        expires_in = min(KEY_LIFETIME, opened.issued + KEY_LIFETIME - now)
        with self._lock:
            time_now = self._drop_expired()
            if key_id in self._keys:
                raise PolicyError(
                    "key-exists", "there is a key with this id", next="make a new key"
                )
            if len(self._keys) >= self._max_keys:
                raise UnavailableError(
                    "too-many-keys",
                    "the secret service holds as many keys as it can",
                    expected=f"fewer than {self._max_keys}",
                    next="try again later",
                )
            self._keys[key_id] = _Stored(opened.key, opened.models, time_now + expires_in)
        return KeyAccepted(key_id, expires_in)

    def get(self, key_id: bytes, worker: MeshIdentity) -> ReleasedKey:
        """The key, for a worker whose certificate the caller has verified.

        Raises PolicyError "unknown-key", or "model-not-allowed" if worker and key share no model.
        """
        with self._lock:
            time_now = self._drop_expired()
            stored = self._keys.get(key_id)
        if stored is None:
            raise PolicyError(
                "unknown-key",
                "the key does not exist or has expired",
                next="exchange a new key",
            )
        if worker.role not in WORKERS or not set(worker.models) & set(stored.models):
            raise PolicyError(
                "model-not-allowed",
                "the key does not allow a model of this worker",
                expected=f"a worker with {' or '.join(stored.models)}",
                seen=f"{worker.role} with {' '.join(worker.models) or 'no model'}",
            )
        return ReleasedKey(stored.key, stored.models, int(stored.ends - time_now))

    def _drop_expired(self) -> float:
        now = self._monotonic()
        for key_id in [k for k, stored in self._keys.items() if stored.ends <= now]:
            del self._keys[key_id]
        return now
