"""The worker's calls of the secret services: one key per call, over mutual TLS.

Secret services do not know each other, so a worker asks one after the other. It believes that a
key does not exist only if each one that answered says so: one that was started anew knows nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256

from confide.errors import ConfideError, PolicyError, UnavailableError
from confide.guest.mesh.join import Membership
from confide.guest.mesh.tls import client_context, peer_identity
from confide.net.calls import Caller
from confide.net.refusals import peer_error
from confide.protocol.roles import Role
from confide.protocol.secret_service import MAX_OFFER, ReleasedKey

TIMEOUT = 30.0
"""Seconds; between emulated machines a handshake takes several."""

DOWN_SECONDS = 30.0
"""How long a secret service that did not answer is asked last."""


class DeniedError(PolicyError):
    """Each secret service of this worker has answered, and none releases a key under this id."""


class SecretServices:
    """The secret services of this worker's config disk. Thread-safe."""

    def __init__(
        self,
        urls: Sequence[str],
        membership: Callable[[], Membership],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`urls` are https without a path; `membership` raises while this node has none."""
        self._urls = tuple(urls)
        self._membership = membership
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._down: dict[str, float] = {}

    def fetch(self, key_id: bytes) -> ReleasedKey:
        """This worker's key for the key with this id (32 bytes), from the first that has it.

        Raises UnavailableError "secret-service-unreachable" if none answered, PolicyError
        "unknown-key" if each one that answered says so, or "model-not-allowed"; as DeniedError if
        all of them answered, or the key is there and not for this worker.
        """
        membership = self._membership()
        unknown: ConfideError | None = None
        failed: ConfideError | None = None
        for url in self._order(key_id):
            self._try(url)
            try:
                released = fetch_key(url, membership, key_id)
                self._answered(url)
                return released
            except ConfideError as error:
                if error.code in ("model-not-allowed", "unknown-key"):
                    self._answered(url)
                    if error.code == "model-not-allowed":
                        raise _denied(error) from error
                    unknown = error
                    continue
                # Unreachable, or not a secret service of this mesh.
                failed = error
                with self._lock:
                    self._down[url] = self._monotonic() + DOWN_SECONDS
        if unknown is not None:
            raise unknown if failed is not None else _denied(unknown)
        if failed is not None:
            raise failed
        raise UnavailableError(
            "secret-service-unreachable",
            "the config disk of this worker names no secret service",
            next="start the worker with --secret-service",
        )

    def _try(self, url: str) -> None:
        """One request at a time finds out whether a service that was down is back."""
        with self._lock:
            if url in self._down:
                self._down[url] = self._monotonic() + DOWN_SECONDS

    def _answered(self, url: str) -> None:
        with self._lock:
            self._down.pop(url, None)

    def _order(self, key_id: bytes) -> list[str]:
        """Rendezvous order: keys spread over the services, and those that are down come last."""
        now = self._monotonic()
        with self._lock:
            down = {url for url, until in self._down.items() if now < until}
        scores = {url: sha256(url.encode() + b"\0" + key_id).digest() for url in self._urls}
        ranked = sorted(self._urls, key=scores.__getitem__, reverse=True)
        return sorted(ranked, key=down.__contains__)


def _denied(error: ConfideError) -> DeniedError:
    return DeniedError(
        error.code, error.message, expected=error.expected, seen=error.seen, next=error.next
    )


def fetch_key(url: str, membership: Membership, key_id: bytes) -> ReleasedKey:
    """Fetch this worker's key for the key with this id from the secret service at `url`.

    Raises UnavailableError if it is unreachable, VerificationError unless the peer's certificate
    names the role secret-service, PolicyError "unknown-key" or "model-not-allowed" if it refuses.
    """
    caller = Caller(
        url,
        connect_seconds=TIMEOUT,
        read_seconds=TIMEOUT,
        total_seconds=2 * TIMEOUT,
        tls=partial(client_context, membership),
        check_peer=partial(peer_identity, membership=membership, role=Role.SECRET_SERVICE),
    )
    try:
        answer = caller.call("GET", f"/v1/keys/{key_id.hex()}", limit=MAX_OFFER)
    except UnavailableError as error:
        raise UnavailableError(
            "secret-service-unreachable",
            "the secret service is unreachable",
            expected=f"a TLS connection to {url}",
            seen=error.seen,
            next="check that it runs and is a member of the same mesh",
        ) from error
    if answer.status != 200:
        raise peer_error(answer, url)
    return ReleasedKey.parse(answer.body)
