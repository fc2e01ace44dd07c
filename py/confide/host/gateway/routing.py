"""The workers behind this gateway: which are ready, and the list from which clients choose.

What a worker says about itself here is passed on and decides nothing: each client verifies the
certificates and seals to the worker that it has chosen.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from hashlib import sha256

from confide.encoding.canonical import foreign_json
from confide.encoding.fields import Fields
from confide.encoding.texts import check_name
from confide.encoding.x509 import load_certificate
from confide.errors import ConfideError, FormatError
from confide.host.gateway.looking import PATIENCE_SECONDS, Looking
from confide.net.calls import Caller
from confide.net.http_client import Upstream
from confide.protocol.certificates import public_key_of
from confide.protocol.frames import RELAY_SILENCE
from confide.protocol.keyexchange import worker_id_of
from confide.protocol.roles import WORKERS
from confide.protocol.workers import MAX_WORKERS, ListedWorker, WorkerList, WorkerOffer

MAX_HEALTH = 1 << 16
"""Bytes of what a worker says about itself."""

MAX_TIMEOUTS = 3
"""After so many looks in a row that timed out, a worker that was ready counts as gone."""


class Worker:
    """One worker: its connections, what it serves now, and what clients verify."""

    def __init__(self, url: str) -> None:
        # Wait frames come all the time, and the same sealed bytes must not reach a worker twice.
        self.upstream = Upstream(
            url, connect_seconds=5.0, read_seconds=RELAY_SILENCE, resends=False
        )
        self._caller = Caller(
            url,
            connect_seconds=5.0,
            read_seconds=PATIENCE_SECONDS,
            total_seconds=2 * PATIENCE_SECONDS,
        )
        self._timeouts = 0
        self.url = self.upstream.url
        self.id = b""
        self.offer: WorkerOffer | None = None
        self.models: frozenset[str] = frozenset()

    def look(self) -> None:
        """Ask the worker for its health and its offer; one that is not ready serves no model."""
        models: frozenset[str] = frozenset()
        try:
            health = self._caller.call("GET", "/healthz", limit=MAX_HEALTH)
            served = _served(health.body) if health.status == 200 else models
            if served:
                self._take_offer()
            models = served
            self._timeouts = 0
        except ConfideError as error:
            self._timeouts += error.code == "peer-timeout"
            if error.code == "peer-timeout" and self._timeouts < MAX_TIMEOUTS:
                models = self.models
        finally:
            self.models = models

    def listed(self, models: Sequence[str]) -> ListedWorker | None:
        """This worker in a list for some models, None if it serves none of them."""
        ready = tuple(sorted(self.models.intersection(models)))
        offer = self.offer
        if offer is None or not ready:
            return None
        return ListedWorker(self.id, offer.certificate, offer.kem_public_key, ready, offer.load)

    def _take_offer(self) -> None:
        answer = self._caller.call("GET", "/v1/worker", limit=MAX_HEALTH)
        if answer.status != 200:
            seen = f"HTTP {answer.status}"
            raise FormatError("bad-answer", "a worker gives no certificate", seen=seen)
        offer = WorkerOffer.parse(answer.body)
        if self.offer is None or offer.certificate != self.offer.certificate:
            certificate = load_certificate(offer.certificate, "worker's")
            self.id = worker_id_of(public_key_of(certificate, "worker's"))
        self.offer = offer


def _served(body: bytes) -> frozenset[str]:
    fields = Fields(foreign_json(body, "a worker's health"), "a worker's health")
    if fields.text("role") not in WORKERS:
        return frozenset()
    # Not the worker's own state, which is ready only when all of its models are.
    models = fields.map("models")
    names = [check_name(name, "a worker's model") for name in models.unread()]
    return frozenset(name for name in names if models.text(name) == "ready")


class Workers(Looking[Worker]):
    """All workers of this gateway."""

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__([Worker(url) for url in urls])
        self._lists: dict[str, tuple[bytes, str]] = {}
        self._lists_lock = threading.Lock()

    def models(self) -> list[str]:
        """The names of all models that some worker serves now."""
        return sorted(frozenset().union(*(worker.models for worker in self.peers)))

    def find(self, worker_id: bytes, model: str) -> Worker | None:
        """The worker with this id (32 bytes), if it serves the model now."""
        for worker in self.peers:
            if worker.id == worker_id and model in worker.models:
                return worker
        return None

    def lost(self, worker: Worker) -> None:
        """A worker is unreachable: it serves nothing until a look says otherwise."""
        worker.models = frozenset()
        self.looked()

    def list_for(self, models: Sequence[str]) -> tuple[bytes, str]:
        """An encoded list of the workers that serve some of these models, and its SHA-256 (hex)."""
        names = sorted(set(models).intersection(self.models()))
        if len(names) != 1:
            # Not kept: each client chooses other names, and as many as it likes.
            return self._encoded(names)
        with self._lists_lock:
            found = self._lists.get(names[0])
            if found is None:
                found = self._lists[names[0]] = self._encoded(names)
        return found

    def _encoded(self, names: Sequence[str]) -> tuple[bytes, str]:
        listed = (worker.listed(names) for worker in self.peers)
        shown = [worker for worker in listed if worker is not None]
        encoded = WorkerList(tuple(shown[:MAX_WORKERS])).encode()
        return encoded, sha256(encoded).hexdigest()

    def looked(self) -> None:
        """Something may have changed: make lists anew."""
        with self._lists_lock:
            self._lists.clear()
