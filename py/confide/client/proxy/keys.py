"""The keys of models: made at the first use, sealed to every verified secret service.

A key is for one model and one mesh. It is replaced after 45 minutes, and at most once in
REPLACE_SECONDS because somebody says that it is unknown: anybody on the way can say so.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from confide.client.proxy.gateway import Gateway, setup_ends
from confide.client.proxy.handshake import Established
from confide.errors import ConfideError, UnavailableError, VerificationError
from confide.net.boot_clock import boot_seconds
from confide.protocol.keyexchange import (
    KEY_LIFETIME,
    KEY_REPLACE_AFTER,
    KEY_SIZE,
    InferenceKey,
    seal_key,
    worker_key,
)
from confide.protocol.secret_service import (
    MAX_REPLY,
    MAX_SERVICES,
    KeyAccepted,
    KeyExchangeReply,
    KeyOffer,
)
from confide.verify.nodes import verified_offers

REPLACE_SECONDS = 10.0
"""Between two keys that were replaced because they were said to be unknown."""

MAX_UPLOADS = 8 * MAX_SERVICES
"""Uploads at once. One to a secret service that hangs takes a minute, for each model."""

PATIENCE_SECONDS = 2.0
"""How long to wait for other secret services once one has the key."""


@dataclass(repr=False)
class ModelKey:
    """A key M that secret services hold, and what was made of it. Thread-safe.

    `made` and `due`, when it is to be replaced, are in boot-time seconds. `accepted` of the `shown`
    secret services took it.
    """

    key: InferenceKey
    key_id: bytes
    mesh_ca: bytes
    made: float
    due: float
    accepted: int
    shown: int
    _worker_keys: dict[bytes, bytes] = field(default_factory=dict)
    _counters: dict[bytes, itertools.count[int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_for(self, worker: bytes) -> tuple[bytes, int]:
        """K_w of a worker (32 bytes, `worker_id_of`), and the number of its next request."""
        with self._lock:
            if worker not in self._worker_keys:
                made = worker_key(self.key.key, worker=worker, model=self.key.model)
                self._worker_keys[worker], self._counters[worker] = made, itertools.count()
            return self._worker_keys[worker], next(self._counters[worker])


class ModelKeys:
    """Makes keys and remembers them, one for each model. Safe to use from any thread."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = boot_seconds,
    ) -> None:
        """`clock` gives unix seconds, `monotonic` boot-time seconds."""
        self._gateway = gateway
        self._clock = clock
        self._monotonic = monotonic
        self._keys: dict[str, ModelKey] = {}
        self._replaced: dict[str, float] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._uploads = ThreadPoolExecutor(MAX_UPLOADS, thread_name_prefix="keys")

    def get(self, established: Established, model: str) -> ModelKey:
        """The key for a model of the manifest; a new one if there is none that still counts.

        If none can be made now, and while one is being made, the one before serves until its hour
        is over.

        Raises VerificationError if no secret service passes, UnavailableError if none takes the
        key, or the gateway does not answer.
        """
        key = self._current(established, model)
        if key is not None:
            return key
        lock = self._lock_of(model)
        before = self._living(established, model)
        if not lock.acquire(blocking=before is None):
            assert before is not None
            return before
        try:
            key = self._current(established, model)
            if key is not None:
                return key
            try:
                return self._make(established, model)
            except (UnavailableError, VerificationError):
                # A gateway that reaches no secret service shows none.
                key = self._living(established, model)
                if key is None:
                    raise
                # Workers have it, even if all secret services are away.
                key.due = self._monotonic() + REPLACE_SECONDS
                return key
        finally:
            lock.release()

    def replace(self, established: Established, stale: ModelKey) -> ModelKey:
        """Another key than `stale`, which is said to be unknown. Raises as `get`.

        Raises UnavailableError "key-just-replaced" if one was replaced a moment ago.
        """
        model = stale.key.model
        with self._lock_of(model):
            key = self._current(established, model)
            if key is not None and key is not stale:
                return key
            now = self._monotonic()
            if now < self._replaced.get(model, float("-inf")) + REPLACE_SECONDS:
                raise UnavailableError(
                    "key-just-replaced",
                    "the key of this request is said to be unknown, and it is new",
                    expected=f"one new key in {REPLACE_SECONDS:.0f} s",
                    next="try again later",
                )
            made = self._make(established, model)
            # Not earlier: that secret services are not there yet must not cost another ten seconds.
            self._replaced[model] = now
            return made

    def _current(self, established: Established, model: str) -> ModelKey | None:
        """The key that needs no other one yet."""
        key = self._living(established, model)
        return key if key is not None and self._monotonic() < key.due else None

    def _living(self, established: Established, model: str) -> ModelKey | None:
        """The key that workers take, due or not."""
        key = self._keys.get(model)
        if key is None or key.mesh_ca != established.mesh_ca:
            return None
        return None if self._has_ended(key, self._monotonic()) else key

    @staticmethod
    def _has_ended(key: ModelKey, now: float) -> bool:
        return now >= key.made + KEY_LIFETIME

    def forget(self) -> None:
        """Drop keys whose hour is over, also if no app asks for anything."""
        now = self._monotonic()
        for model, key in list(self._keys.items()):
            if self._has_ended(key, now):
                with self._lock_of(model):
                    if self._keys.get(model) is key:
                        del self._keys[model]

    def _lock_of(self, model: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(model, threading.Lock())

    def _make(self, established: Established, model: str) -> ModelKey:
        until = setup_ends()
        reply = KeyExchangeReply.parse(
            self._gateway.ask("GET", "/confide/v1/key-exchange", limit=MAX_REPLY, until=until)
        )
        # Not earlier: the gateway may hold up the answer until certificates are too old.
        made, now = self._monotonic(), int(self._clock())
        offers, refused = verified_offers(
            reply, mesh_ca=established.mesh_ca, root_ca=established.root_ca, now=now
        )
        if not reply.services:
            raise UnavailableError(
                "no-secret-service",
                "the gateway shows no secret service",
                expected="one at least",
                next="try again later; nothing was sent",
            )
        if not offers:
            raise VerificationError(
                "no-secret-service",
                "the gateway shows no secret service that passes verification",
                expected="one at least",
                seen=f"0 of {len(reply.services)}"
                + (f"; the first one: {refused[0]}" if refused else ""),
                next="ask the operator; nothing was sent",
            )
        key = InferenceKey(os.urandom(KEY_SIZE), model, now)
        accepted = self._upload(key, offers, established.manifest.sha256, until)
        self._keys[model] = ModelKey(
            key=key,
            key_id=key.key_id,
            mesh_ca=established.mesh_ca,
            made=made,
            due=made + KEY_REPLACE_AFTER,
            accepted=accepted,
            shown=len(reply.services),
        )
        return self._keys[model]

    def _upload(
        self, key: InferenceKey, offers: list[KeyOffer], manifest_sha256: bytes, until: float
    ) -> int:
        """Send the key to each secret service, until then. Returns how many have it."""

        def upload(offer: KeyOffer) -> None:
            message = seal_key(key, offer.kem_public_key, manifest_sha256=manifest_sha256)
            answer = self._gateway.ask(
                "POST", "/confide/v1/keys", message, limit=MAX_REPLY, until=until
            )
            accepted = KeyAccepted.parse(answer)
            if accepted.key_id != key.key_id:
                raise VerificationError(
                    "wrong-key-id",
                    "the secret service took another key than the one that was sealed",
                    expected=key.key_id.hex(),
                    seen=accepted.key_id.hex(),
                )

        running = {self._uploads.submit(upload, offer) for offer in offers}
        errors: list[ConfideError] = []
        accepted = 0
        while running:
            # One is enough. A secret service that hangs must not hold up the request.
            timeout = PATIENCE_SECONDS if accepted else None
            done, running = wait(running, timeout, return_when="FIRST_COMPLETED")
            if not done:
                break
            for future in done:
                error = _error_of(future)
                accepted += error is None
                errors += [error] if error else []
        if not accepted:
            raise errors[0]
        return accepted


def _error_of(future: Future[None]) -> ConfideError | None:
    try:
        future.result()
    except ConfideError as error:
        return error
    return None
