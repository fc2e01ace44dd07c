"""The secret service: clients' keys, in RAM, of which attested workers get their own images.

Rules of this module:

* Keys arrive sealed to a KEM key of this machine, which a mesh certificate names. A worker gets
  K_w, the image of the key under the worker's own public key, and only for a model that its
  verified certificate names. The key itself never leaves.
* A key is written once, for one model. It ends an hour after the client made it, by a clock that
  the host cannot turn back, and is then forgotten, also if nobody asks.
* Its id stays taken until the KEM key by which it came is dead as well. So a message that is sent
  again opens nothing: first the id is taken, then the private key is gone.
* Nothing is written or logged. All keys end with the process.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from confide.errors import PolicyError, UnavailableError
from confide.guest.mesh.kem import KemKeys
from confide.protocol.certificates import MeshIdentity
from confide.protocol.keyexchange import (
    KEY_LIFETIME,
    SealedKeyMessage,
    open_key,
    worker_id_of,
    worker_key,
)
from confide.protocol.manifest import Manifest
from confide.protocol.roles import WORKERS
from confide.protocol.secret_service import KeyAccepted, ReleasedKey

MAX_KEYS = 65_536
"""Anyone can send keys, so there is a limit: about 40 MB of RAM."""

SHARES = 4
"""One source has a quarter of the keys at most.

A source is an address as TCP sees it (`net.address.source_of`). Clients come through gateways, so
it is a gateway with all its clients, of which the gateway limits each. A host that forges addresses
can fill the store. It can also cut the cable.
"""


@dataclass(frozen=True)
class _Stored:
    """A key, or, once it has ended, only the fact that its id is taken: `key` is then empty."""

    key: bytes = field(repr=False)
    source: str
    model: str
    billing: bytes
    ends: float
    free: float


class SecretService:
    """The key store. Thread-safe. `now` gives unix seconds, `monotonic` seconds that only grow."""

    def __init__(
        self,
        kem: KemKeys,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        max_keys: int = MAX_KEYS,
    ) -> None:
        """`kem` holds the private keys of this machine; its clock is `monotonic`, too."""
        self._kem = kem
        self._now = now
        self._monotonic = monotonic
        self._max_keys = max_keys
        self._keys: dict[bytes, _Stored] = {}
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def put(self, message: bytes, manifest: Manifest, *, source: str) -> KeyAccepted:
        """Store the key in a sealed key message, made under `manifest`, that came from `source`.

        Raises FormatError or VerificationError if it does not open or is stale, PolicyError if its
        KEM key is gone, its model is not in the manifest or its id is taken, UnavailableError if
        the store, or the share of its source, is full.
        """
        with self._lock:
            self._require_room(source)  # before anything that costs time
        sealed = SealedKeyMessage.parse(message)
        kem = self._kem.find(sealed.kem_sha256)
        if kem is None:
            raise _gone(sealed.kem_sha256)
        arrived, now = self._monotonic(), int(self._now())
        opened = open_key(sealed, kem.key, manifest_sha256=manifest.sha256, now=now)
        manifest.model(opened.model)
        expires_in = min(KEY_LIFETIME, opened.issued + KEY_LIFETIME - now)
        with self._lock:
            # The ids of a dead KEM key are free, and a host may have stopped this thread since
            # the key was found.
            if kem.dies <= self._monotonic():
                raise _gone(sealed.kem_sha256)
            taken = self._keys.get(opened.key_id)
            if taken is not None and arrived < taken.free:
                raise PolicyError(
                    "key-exists", "there is a key with this id", next="make a new key"
                )
            self._require_room(source)
            ends = arrived + expires_in
            self._drop(opened.key_id)
            self._keys[opened.key_id] = _Stored(
                opened.key, source, opened.model, opened.billing, ends, max(ends, kem.dies)
            )
            self._held[source] += 1
        return KeyAccepted(opened.key_id, expires_in)

    def get(self, key_id: bytes, worker: MeshIdentity) -> ReleasedKey:
        """The worker's own key, for a worker whose certificate the caller has verified.

        Raises PolicyError "unknown-key", or "model-not-allowed" if the worker does not serve the
        key's model.
        """
        with self._lock:
            stored = self._keys.get(key_id)
        left = stored.ends - self._monotonic() if stored else 0.0
        if stored is None or left <= 0:
            raise PolicyError(
                "unknown-key",
                "the key does not exist or has expired",
                next="exchange a new key",
            )
        if worker.role not in WORKERS or stored.model not in worker.models:
            raise PolicyError(
                "model-not-allowed",
                "the key is not for a model of this worker",
                expected=f"a worker with {stored.model}",
                seen=f"{worker.role} with {' '.join(worker.models) or 'no model'}",
            )
        released = worker_key(
            stored.key, worker=worker_id_of(worker.public_key), model=stored.model
        )
        return ReleasedKey(released, stored.model, int(left), stored.billing)

    def forget(self) -> None:
        """Drop the keys that have ended, and the ids that are free again.

        Called each second, so that no key lives on because nobody asks.
        """
        now = self._monotonic()
        with self._lock:
            ended = [name for name, stored in self._keys.items() if stored.ends <= now]
            for key_id in ended:
                stored = self._keys[key_id]
                if stored.free <= now:
                    self._drop(key_id)
                elif stored.key:
                    self._keys[key_id] = replace(stored, key=b"", billing=b"")

    def _require_room(self, source: str) -> None:
        """Raise UnavailableError if no more keys of this source fit. Needs the lock."""
        share = max(1, self._max_keys // SHARES)
        if len(self._keys) >= self._max_keys:
            what, most = "the secret service holds as many keys as it can", self._max_keys
        elif self._held[source] >= share:
            what, most = "the secret service holds as many keys of this sender as it may", share
        else:
            return
        raise UnavailableError(
            "too-many-keys", what, expected=f"fewer than {most}", next="try again later"
        )

    def _drop(self, key_id: bytes) -> None:
        """Forget a key, if there is one with this id. Needs the lock."""
        stored = self._keys.pop(key_id, None)
        if stored is not None:
            self._held[stored.source] -= 1
            if not self._held[stored.source]:
                del self._held[stored.source]


def _gone(kem_sha256: bytes) -> PolicyError:
    return PolicyError(
        "kem-key-gone",
        "this secret service does not have the KEM key of the message, or has it no more",
        seen=kem_sha256.hex(),
        next="fetch the KEM keys again and seal the key anew",
    )
