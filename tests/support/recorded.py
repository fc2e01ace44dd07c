"""A sealed request that a gateway has recorded: what the host can change in it, and send where."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import pytest
import requests

from confide.errors import UnavailableError
from confide.protocol.frames import RECORD_ERROR, ClearError
from confide.protocol.share import seal_share
from confide.protocol.workers import WorkerList, WorkerOffer, workers_query
from tests.support.alterations import flip
from tests.support.hostile_gateway import Cut, Exchange, HostileGateway, records
from tests.support.sealed_client import SealedClient

CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Sent:
    """A sealed request as the host has it (docs/protocol.md, section 8)."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def worker(self) -> str:
        """The worker that it was sealed to."""
        return self.headers["Confide-Worker"]

    def named(self, **headers: str) -> Sent:
        """With other headers: Confide_Worker stands for Confide-Worker."""
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **changed})

    def beginning(self, other: bytes) -> Sent:
        """With as many other bytes at the beginning: KEM key's hash, sealed share, salt."""
        return replace(self, body=other + self.body[len(other) :])


def sealed_to_each(hostile: HostileGateway, ask: Callable[[], object]) -> list[Sent]:
    """What a client seals when `ask` is called, and no request gets through: to each worker one."""
    sent: dict[bytes, Sent] = {}

    def take(exchange: Exchange) -> None:
        if exchange.path == CHAT:
            # By what it is: on a connection that was kept open, the same may come twice.
            sent[exchange.body] = Sent(exchange.headers, exchange.body)
            raise Cut

    hostile.on_request = take
    with pytest.raises(UnavailableError):
        ask()
    hostile.reset()
    assert len({one.worker for one in sent.values()}) == len(sent) > 1
    return list(sent.values())


class Recorded:
    """One prompt, sealed by one client to each of two workers; neither request has arrived.

    `own` and `own_key_id` are what a gateway can make itself: a share and a key that it knows.
    """

    def __init__(
        self, gateway: str, manifest: bytes, model: str, machines: Sequence[str], sent: list[Sent]
    ) -> None:
        """`machines` are the addresses of the workers."""
        shown = requests.get(f"{gateway}{workers_query([model])}", timeout=60).content
        self.workers = {worker.worker.hex(): worker for worker in WorkerList.parse(shown).workers}
        names = {worker.certificate: name for name, worker in self.workers.items()}
        self._machines = {}
        for url in machines:
            offer = WorkerOffer.parse(requests.get(f"{url}/v1/worker", timeout=60).content)
            self._machines[names[offer.certificate]] = url
        self.first, self.other = sent
        self._manifest_sha256 = sha256(manifest).digest()
        self.own_key_id = SealedClient(gateway, manifest).key_for(model).key_id.hex()

    def own(self, worker: str) -> bytes:
        """How a request to this worker begins, with a share that the gateway knows."""
        kem = self.workers[worker].kem_public_key
        share = seal_share(os.urandom(32), kem, manifest_sha256=self._manifest_sha256)
        return sha256(kem).digest() + share

    def renamed(self, **headers: str) -> Sent:
        """The request to the first worker, with the other one's name, and other headers."""
        return self.first.named(Confide_Worker=self.other.worker, **headers)

    def deliver(self, to: str, sent: Sent, path: str = CHAT) -> requests.Response:
        """What this worker answers, asked around the gateway."""
        url = self._machines[to] + path
        return requests.post(url, data=sent.body, headers=sent.headers, timeout=120)


HASH, SHARE, SALT = 32, 32 + 1168, 32 + 1168 + 32
"""Where each part of a sealed request ends."""

Change = Callable[[Recorded], Sent]
"""Makes what is delivered of the request to the first worker."""

TO_THE_OTHER: dict[str, tuple[Change, str]] = {
    "as it is": (lambda r: r.first, "wrong-worker"),
    "its name": (lambda r: r.renamed(), "kem-key-gone"),
    "its name and KEM key": (
        lambda r: r.renamed().beginning(r.other.body[:HASH]),
        "bad-key-seal",
    ),
    "its name, and a share of the gateway's own": (
        lambda r: r.renamed().beginning(r.own(r.other.worker)),
        "bad-seal",
    ),
    "its name, and the client's share for it": (
        lambda r: r.renamed().beginning(r.other.body[:SHARE]),
        "bad-seal",
    ),
    "its name, and the client's share and salt for it": (
        lambda r: r.renamed().beginning(r.other.body[:SALT]),
        "bad-seal",
    ),
    "its name, and a key and a share of the gateway's own": (
        lambda r: r.renamed(Confide_Key_Id=r.own_key_id).beginning(r.own(r.other.worker)),
        "bad-seal",
    ),
    "its name, and a key that nobody has": (
        lambda r: r.renamed(Confide_Key_Id="00" * 32).beginning(r.own(r.other.worker)),
        "unknown-key",
    ),
}
"""What reaches the other worker, and the check that stops it: those before it pass."""

TO_THE_FIRST: dict[str, tuple[Change, str]] = {
    "another name": (lambda r: r.renamed(), "wrong-worker"),
    "another model": (lambda r: r.first.named(Confide_Model="another"), "model-not-served"),
    "another manifest": (lambda r: r.first.named(Confide_Manifest="00" * 32), "wrong-manifest"),
    "a key of the gateway's own": (
        lambda r: r.first.named(Confide_Key_Id=r.own_key_id),
        "bad-seal",
    ),
    "the other worker's KEM key": (
        lambda r: r.first.beginning(r.other.body[:HASH]),
        "kem-key-gone",
    ),
    "the share for the other worker": (
        lambda r: r.first.beginning(r.first.body[:HASH] + r.other.body[HASH:SHARE]),
        "bad-key-seal",
    ),
    "a share of the gateway's own": (
        lambda r: r.first.beginning(r.own(r.first.worker)),
        "bad-seal",
    ),
    "a later number": (
        lambda r: r.first.beginning(r.first.body[:SHARE] + (1 << 40).to_bytes(8, "big")),
        "bad-seal",
    ),
    "a last byte that was changed": (
        lambda r: replace(r.first, body=flip(r.first.body, len(r.first.body) - 1)),
        "bad-seal",
    ),
}
"""Likewise for the worker that it was sealed to."""


def refused(answer: requests.Response) -> str:
    """The code of the error in the clear, which is all that a worker answered."""
    assert answer.status_code == 200
    (record,) = records([answer.content])
    assert record[0] == RECORD_ERROR
    return ClearError.parse(record[5:]).code
