"""Which worker gets a request: health, models, and rendezvous hashing by shard key.

What a worker says about itself here only decides the route. The secret service decides whether it
is a verified worker, when the worker asks for a key.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from confide.encoding.fields import Fields
from confide.encoding.texts import check_name
from confide.errors import ConfideError, FormatError, UnavailableError
from confide.net.calls import Caller
from confide.net.http_client import Upstream
from confide.protocol.roles import WORKERS

HEALTH_SECONDS = 2.0
"""Between two looks at a worker's health."""

PATIENCE_SECONDS = 10.0
"""How long one look may take: an emulated machine that computes an answer responds late."""

MAX_TIMEOUTS = 3
"""After so many looks in a row that timed out, a worker that was ready counts as gone."""


class Worker:
    """One worker: its connections, what it serves now, and its requests in flight."""

    def __init__(self, url: str) -> None:
        self.upstream = Upstream(url, connect_seconds=5.0)
        self._health = Caller(
            url,
            connect_seconds=5.0,
            read_seconds=PATIENCE_SECONDS,
            total_seconds=2 * PATIENCE_SECONDS,
        )
        self._timeouts = 0
        self.url = self.upstream.url
        self.models: frozenset[str] = frozenset()
        self.in_flight = 0

    def look(self) -> None:
        """Ask the worker for its health; one that is not ready serves no model."""
        try:
            status, _, body = self._health.call("GET", "/healthz", limit=1 << 16)
            self.models = _served(body) if status == 200 else frozenset()
            self._timeouts = 0
        except ConfideError as error:
            self._timeouts += error.code == "peer-timeout"
            if error.code != "peer-timeout" or self._timeouts >= MAX_TIMEOUTS:
                self.models = frozenset()


def _served(body: bytes) -> frozenset[str]:
    try:
        fields = Fields(json.loads(body), "a worker's health")
    except ValueError as error:
        raise FormatError("bad-json", "a worker's health is not JSON") from error
    if fields.text("role") not in WORKERS:
        return frozenset()
    # Not the worker's own state, which is ready only when all of its models are.
    models = fields.map("models")
    names = [check_name(name, "a worker's model") for name in models.unread()]
    return frozenset(name for name in names if models.text(name) == "ready")


class Workers:
    """All workers of this gateway."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._workers = tuple(Worker(url) for url in urls)
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def start(self) -> None:
        """Look at every worker now, and then every HEALTH_SECONDS."""
        for worker in self._workers:
            worker.look()
            threading.Thread(target=self._watch, args=(worker,), daemon=True).start()

    def stop(self) -> None:
        """End the threads of `start`."""
        self._stop.set()

    def models(self) -> list[str]:
        """The names of all models that some worker serves now."""
        return sorted(frozenset().union(*(worker.models for worker in self._workers)))

    def candidates(self, model: str, shard_key: str) -> list[Worker]:
        """The workers to try, in this order.

        With a shard key, the same worker comes first as long as it is ready, because its caches are
        warm. Without one, the worker with the fewest requests in flight comes first.

        Raises:
            FormatError: A header is malformed.
            UnavailableError: "no-worker".
        """
        check_name(model, "the header Confide-Model")
        if shard_key:
            check_name(shard_key, "the header Confide-Shard-Key")
        serving = [worker for worker in self._workers if model in worker.models]
        if not serving:
            raise UnavailableError(
                "no-worker",
                "no worker serves this model now",
                expected=", ".join(self.models()) or "a worker that is ready",
                seen=model,
                next="try again later, or use a model that /v1/models lists",
            )
        if shard_key:
            return sorted(serving, key=lambda worker: _score(shard_key, worker.url), reverse=True)
        return sorted(serving, key=lambda worker: worker.in_flight)

    @contextmanager
    def busy(self, worker: Worker) -> Iterator[None]:
        """Count a request as in flight on `worker`."""
        with self._lock:
            worker.in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                worker.in_flight -= 1

    def _watch(self, worker: Worker) -> None:
        while not self._stop.wait(HEALTH_SECONDS):
            worker.look()


def _score(shard_key: str, url: str) -> bytes:
    return hashlib.sha256(f"{shard_key}\0{url}".encode()).digest()
