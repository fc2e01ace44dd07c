"""Somebody records all traffic, and reads the memory of machines later. SIMULATED.

The machines are the real objects with clocks that the test turns. Their memory is what those
objects lead to: memory that Python has freed and not overwritten is not in it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from types import BuiltinFunctionType, FunctionType, ModuleType

import pytest

from confide.client.proxy.keys import ModelKeys
from confide.client.proxy.workers import Workers
from confide.errors import ConfideError
from confide.guest.mesh.kem import KEM_LIFETIME
from confide.guest.worker.keys import Keys
from confide.protocol.kem import KemPrivateKey
from confide.protocol.keyexchange import (
    KEY_LIFETIME,
    KEY_SIZE,
    SealedKeyMessage,
    key_id_of,
    open_key,
    worker_key,
)
from confide.protocol.sealed import (
    RequestContent,
    RequestHeaders,
    RequestKey,
    RequestSealer,
    SealedRequest,
)
from confide.protocol.secret_service import ReleasedKey
from confide.protocol.share import open_share
from tests.support.local_coordinator import LocalCoordinator
from tests.support.simulated_machine import MODEL, NOW
from tests.support.small_service import SmallService

PLACE = {"method": "POST", "path": "/v1/completions"}
PROMPT = b'{"prompt": "a secret"}'
RENEWED = 2700
"""Seconds after which a node gets its next certificate."""

_NOT_STATE = (type, ModuleType, FunctionType, BuiltinFunctionType, LocalCoordinator)


@dataclass
class Memory:
    """What a memory holds that can open something."""

    kem: list[KemPrivateKey]
    secrets: set[bytes]

    @classmethod
    def of(cls, *roots: object) -> Memory:
        """All that the objects lead to. Code and other machines are left out."""
        found, seen, left = cls([], set()), set(), list(roots)
        while left:
            one = left.pop()
            if id(one) in seen or isinstance(one, _NOT_STATE):
                continue
            seen.add(id(one))
            if isinstance(one, KemPrivateKey):
                found.kem.append(one)
            if isinstance(one, bytes) and len(one) == KEY_SIZE:
                found.secrets.add(one)
            left += gc.get_referents(one)
        return found


class Recorded:
    """A service with a worker that has answered a request, and all that went over the wire."""

    def __init__(self) -> None:
        self.service = service = SmallService(services=3)
        (self.node,) = service.workers
        keys = ModelKeys(service.gateway, clock=service.clock, monotonic=service.monotonic)
        workers = Workers(service.gateway, clock=service.clock, monotonic=service.monotonic)
        key = keys.get(service.established, MODEL)
        self.uploads = [body for path, body in service.asked if path.endswith("/keys")]
        worker = workers.choose(service.established, MODEL, bytes(32), set())
        k_w, counter = key.next_for(worker.id)
        share, sealed_share = worker.share
        sealer = RequestSealer(RequestKey(k_w, share, worker.kem_sha256, sealed_share), counter)
        self.headers = RequestHeaders(MODEL, key.key_id, service.manifest.sha256, worker.id)
        self.request = sealer.seal(RequestContent(PROMPT), self.headers, **PLACE)
        self.keys = Keys(
            lambda _: ReleasedKey(k_w, MODEL, KEY_LIFETIME), self.node.kem, clock=service.monotonic
        )
        opened = self.keys.open(self.request, self.headers, **PLACE)
        assert opened.content.body == PROMPT

    def turn(self, seconds: float) -> None:
        """Let time pass. Nodes renew their certificates; what has ended is dropped each second."""
        service, renewal = self.service, NOW + RENEWED
        for at in sorted({min(renewal, NOW + seconds), NOW + seconds}):
            service.monotonic.now += at - service.clock.now
            service.clock.now = at
            for node in (*service.nodes, self.node):
                node.kem.forget()
                if at == renewal:
                    node.join()
        for secrets in service.secrets:
            secrets.forget()
        self.keys.forget()

    def memory(self, who: str) -> Memory:
        services = (*self.service.secrets, *self.service.nodes)
        worker = (self.keys._keys, self.node)
        return Memory.of(
            *{"secret services": services, "worker": worker, "all": services + worker}[who]
        )

    def opened_with(self, memory: Memory) -> set[str]:
        """What a memory opens of what was recorded: the model's key, and the prompt."""
        models = {secret for secret in memory.secrets if key_id_of(secret) == self.headers.key_id}
        models |= self._model_keys(memory.kem)
        known = memory.secrets | {
            worker_key(model, worker=self.headers.worker, model=MODEL) for model in models
        }
        sealed = SealedRequest.cut(self.request)
        shares = set(memory.secrets)
        for kem in memory.kem:
            with suppress(ConfideError):
                shares.add(open_share(sealed.sealed_share, kem, manifest_sha256=self._manifest))
        return ({"key"} if models else set()) | self._prompt(sealed, known, shares)

    @property
    def _manifest(self) -> bytes:
        return self.headers.manifest_sha256

    def _model_keys(self, kem: Iterable[KemPrivateKey]) -> set[bytes]:
        found = set()
        for message, key in product(map(SealedKeyMessage.parse, self.uploads), kem):
            with suppress(ConfideError):
                found.add(open_key(message, key, manifest_sha256=self._manifest, now=NOW).key)
        return found

    def _prompt(self, sealed: SealedRequest, keys: set[bytes], shares: set[bytes]) -> set[str]:
        for k_w, share in product(keys, shares):
            with suppress(ConfideError):
                opened = sealed.open(worker_key=k_w, share=share, headers=self.headers, **PLACE)
                assert opened.content.body == PROMPT
                return {"prompt"}
        return set()


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.mark.parametrize(
    ("who", "seconds", "opens"),
    [
        # While the keys live: each machine what it is for, and only the worker a prompt.
        ("secret services", 0, {"key"}),
        ("worker", 0, {"prompt"}),
        ("all", 0, {"key", "prompt"}),
        # The model's key has ended, its message still opens: with the share, it is the prompt.
        ("secret services", KEY_LIFETIME, {"key"}),
        ("worker", KEY_LIFETIME, set()),
        ("all", KEM_LIFETIME - 1, {"key", "prompt"}),
        # After that, nothing: also not with the memory of all machines at once.
        ("secret services", KEM_LIFETIME, set()),
        ("worker", KEM_LIFETIME, set()),
        ("all", KEM_LIFETIME, set()),
    ],
)
def test_what_a_memory_opens_later(
    recorded: Recorded, who: str, seconds: int, opens: set[str]
) -> None:
    recorded.turn(seconds)
    memory = recorded.memory(who)
    assert memory.kem, "the machines still run, with the keys of a later certificate"
    assert recorded.opened_with(memory) == opens
