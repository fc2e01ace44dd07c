"""Which worker gets a request. The gateway lists workers; the client verifies them and chooses.

Rules of this module:

* A worker counts only after its certificate has passed, for the model, and until an hour after it
  was issued. A machine that is listed twice counts once.
* Requests of one conversation prefer the same two workers, because their caches are warm. Which two
  follows from a secret of this client, so a gateway cannot aim.
* A list is fetched again only when the hash in an answer is another one, at most once a second.
"""

from __future__ import annotations

import hmac
import os
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from confide.client.proxy.gateway import Gateway
from confide.client.proxy.handshake import Established
from confide.errors import ConfideError, UnavailableError
from confide.net.boot_clock import boot_seconds
from confide.protocol.certificates import LEAF_LIFETIME
from confide.protocol.share import SHARE_SIZE, seal_share
from confide.protocol.workers import MAX_LIST, ListedWorker, WorkerList, workers_query
from confide.verify.nodes import verify_worker

REFRESH_SECONDS = 1.0
"""Between two times that a list is fetched because a hash says so."""

PREFERRED = 2
"""How many workers a conversation prefers."""


@dataclass(frozen=True, repr=False)
class VerifiedWorker:
    """A worker with one certificate, which has passed. `expires` is in unix seconds."""

    id: bytes
    certificate: bytes
    kem_public_key: bytes
    manifest_sha256: bytes
    expires: int

    @cached_property
    def kem_sha256(self) -> bytes:
        """SHA-256 of the KEM key: 32 bytes."""
        return sha256(self.kem_public_key).digest()

    @cached_property
    def share(self) -> tuple[bytes, bytes]:
        """A share of this client and worker (32 bytes), and the same sealed to it (1,168 bytes)."""
        share = os.urandom(SHARE_SIZE)
        sealed = seal_share(share, self.kem_public_key, manifest_sha256=self.manifest_sha256)
        return share, sealed


@dataclass(repr=False)
class _Pool:
    """The workers for one model. `fetched` is in boot-time seconds."""

    mesh_ca: bytes
    digest: str
    fetched: float
    shown: int
    refused: str
    workers: dict[bytes, VerifiedWorker]
    loads: dict[bytes, int]


class Workers:
    """The workers that a client has verified, for each model. Safe to use from any thread."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        minimum: int = 0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = boot_seconds,
    ) -> None:
        """`clock` gives unix seconds, `monotonic` boot-time seconds.

        `minimum` is the fewest workers that a list has to show. A handshake has counted them, but
        the lists that requests are sent by come later.
        """
        self._fewest = max(1, minimum)
        self._gateway = gateway
        self._clock = clock
        self._monotonic = monotonic
        self._secret = os.urandom(32)
        self._pools: dict[str, _Pool] = {}
        self._news: dict[str, str] = {}
        self._in_flight: dict[bytes, int] = {}
        self._lock = threading.Lock()
        self._fetching = threading.Lock()

    def choose(
        self, established: Established, model: str, conversation: bytes, tried: Collection[bytes]
    ) -> VerifiedWorker:
        """The worker for a request of this conversation (32 bytes), none of `tried` (ids).

        Raises UnavailableError "no-verified-worker" or "too-few-workers", and what asking the
        gateway raises.
        """
        pool = self._pool(established, model)
        now = self._clock()
        passed = [w for w in pool.workers.values() if now < w.expires]
        if 0 < len(passed) < self._fewest:
            raise UnavailableError(
                "too-few-workers",
                "the gateway shows fewer workers for this model than --min-workers demands",
                expected=f"{self._fewest} at least",
                seen=f"{len(passed)} of the {pool.shown} that the gateway showed passed"
                + (f"; {pool.refused}" if pool.refused else ""),
                next="try again later; nothing was sent",
            )
        left = [w for w in passed if w.id not in tried]
        if not left:
            raise UnavailableError(
                "no-verified-worker",
                "no worker is left for this model that passes verification",
                expected="one at least",
                seen=f"{len(pool.workers)} of the {pool.shown} that the gateway showed passed, "
                f"{len(tried)} were tried" + (f"; {pool.refused}" if pool.refused else ""),
                next="try again later",
            )
        return choose(left, self._loads(pool, left), conversation, self._secret)

    def are_strangers(self, model: str) -> bool:
        """Whether the latest list for the model has workers, and none of them passes."""
        pool = self._pools.get(model)
        return pool is not None and pool.shown > 0 and not pool.workers

    def note(self, model: str, digest: str) -> None:
        """An answer carried this hash (hex) of the list for the model, or none ("")."""
        if digest:
            self._news[model] = digest

    def forget(self, model: str) -> None:
        """Fetch the list for the model again before its next use."""
        self._news[model] = ""

    def forget_expired(self) -> None:
        """Drop lists with a leaf that is too old, and their shares, also if no app asks."""
        with self._fetching:
            now = self._clock()
            for model, pool in list(self._pools.items()):
                if any(worker.expires <= now for worker in pool.workers.values()):
                    del self._pools[model]

    def take(self, established: Established, model: str, encoded: bytes) -> None:
        """A gateway that cannot use a worker sent this list. Raises FormatError."""
        self._take(established, model, encoded)

    def _take(self, established: Established, model: str, encoded: bytes) -> _Pool:
        pool = self._pools[model] = self._verified(established, model, encoded)
        return pool

    @contextmanager
    def busy(self, worker: VerifiedWorker) -> Iterator[None]:
        """Count a request as in flight at `worker`."""
        self._count(worker.id, 1)
        try:
            yield
        finally:
            self._count(worker.id, -1)

    def _count(self, worker: bytes, change: int) -> None:
        with self._lock:
            count = self._in_flight.get(worker, 0) + change
            self._in_flight[worker] = count
            if not count:
                del self._in_flight[worker]

    def _loads(self, pool: _Pool, workers: Sequence[VerifiedWorker]) -> dict[bytes, int]:
        with self._lock:
            return {w.id: pool.loads[w.id] + self._in_flight.get(w.id, 0) for w in workers}

    def _pool(self, established: Established, model: str) -> _Pool:
        pool = self._pools.get(model)
        if pool is not None and not self._is_old(pool, established, model):
            return pool
        serves = pool if pool is not None and self._serves(pool, established) else None
        if not self._fetching.acquire(blocking=serves is None):
            # Another thread asks the gateway, which may be slow.
            assert serves is not None
            return serves
        try:
            pool = self._pools.get(model)
            if pool is None or self._is_old(pool, established, model):
                encoded = self._gateway.ask("GET", workers_query([model]), limit=MAX_LIST)
                pool = self._take(established, model, encoded)
            return pool
        finally:
            self._fetching.release()

    def _serves(self, pool: _Pool, established: Established) -> bool:
        """Whether a list is good for a request, though there may be a newer one."""
        now = self._clock()
        living = sum(now < worker.expires for worker in pool.workers.values())
        return pool.mesh_ca == established.mesh_ca and living >= self._fewest

    def _is_old(self, pool: _Pool, established: Established, model: str) -> bool:
        if pool.mesh_ca != established.mesh_ca:
            return True
        now = self._clock()
        changed = self._news.get(model, pool.digest) != pool.digest
        expired = not all(now < worker.expires for worker in pool.workers.values())
        # One with too few is asked for again, too: a worker may have become ready.
        if not (changed or expired or len(pool.workers) < self._fewest):
            return False
        return self._monotonic() >= pool.fetched + REFRESH_SECONDS

    def _verified(self, established: Established, model: str, encoded: bytes) -> _Pool:
        shown = WorkerList.parse(encoded).workers
        before = self._pools.get(model)
        known = before.workers if before and before.mesh_ca == established.mesh_ca else {}
        workers: dict[bytes, VerifiedWorker] = {}
        refused = ""
        for listed in shown:
            try:
                workers[listed.worker] = self._verify(established, model, listed, known)
            except ConfideError as error:
                refused = refused or f"the first that did not pass: {error}"
        digest = sha256(encoded).hexdigest()
        self._news[model] = digest
        return _Pool(
            established.mesh_ca,
            digest,
            self._monotonic(),
            len(shown),
            refused,
            workers,
            {listed.worker: listed.load for listed in shown},
        )

    def _verify(
        self,
        established: Established,
        model: str,
        listed: ListedWorker,
        known: dict[bytes, VerifiedWorker],
    ) -> VerifiedWorker:
        worker = known.get(listed.worker)
        now = int(self._clock())
        same = worker is not None and (worker.certificate, worker.kem_public_key) == (
            listed.certificate,
            listed.kem_public_key,
        )
        if worker is not None and same and now < worker.expires:
            # The same certificate and key passed before: its share stays.
            return worker
        identity = verify_worker(
            listed,
            models=[model],
            manifest=established.manifest,
            mesh_ca=established.mesh_ca,
            root_ca=established.root_ca,
            now=now,
        )
        return VerifiedWorker(
            listed.worker,
            listed.certificate,
            listed.kem_public_key,
            established.manifest.sha256,
            identity.issued + LEAF_LIFETIME,
        )


def choose(
    workers: Sequence[VerifiedWorker],
    loads: dict[bytes, int],
    conversation: bytes,
    secret: bytes,
) -> VerifiedWorker:
    """The first of the conversation's best two within the load bound, else one of two at random."""

    def score(worker: VerifiedWorker) -> bytes:
        return hmac.digest(secret, conversation + worker.id, "sha256")

    ranked = sorted(workers, key=score, reverse=True)
    bound = 1.5 * sum(loads.values()) / len(workers) + 1
    for worker in ranked[:PREFERRED]:
        if loads[worker.id] <= bound:
            return worker
    pair = secrets.SystemRandom().sample(ranked, 2)
    return min(pair, key=lambda worker: loads[worker.id])
