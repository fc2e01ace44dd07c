"""What a gateway does in the background goes on, whatever the machines behind it answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from email.utils import formatdate
from functools import partial

import pytest

from confide.host.gateway import clocks as clocks_module
from confide.host.gateway import looking
from confide.host.gateway.clocks import Clocks
from confide.host.gateway.routing import Worker, Workers
from confide.host.gateway.secret_services import SecretServices
from confide.net import loops
from confide.protocol.kem import KemPrivateKey
from confide.protocol.secret_service import KeyOffer
from confide.protocol.workers import WorkerOffer
from tests.support.mesh import make_mesh
from tests.support.odd_answers import DEEP, OddPeer, odd_peer
from tests.support.peer import Peer

LEAF, KEM = make_mesh().leaf(), KemPrivateKey.generate().public_bytes
HEALTH = json.dumps({"role": "worker-cpu", "state": "ready", "models": {"tiny": "ready"}}).encode()
ODD = 100


def honest(path: str, _: bytes) -> tuple[int, str, bytes]:
    answers = {
        "/healthz": HEALTH,
        "/v1/worker": WorkerOffer(LEAF, KEM, 1).encode(),
        "/v1/key-exchange": KeyOffer(LEAF, KEM).encode(),
    }
    return 200, "application/x", answers[path]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "HEALTH_SECONDS", 0.001)
    monkeypatch.setattr(clocks_module, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(loops, "FIRST_PAUSE", 0.001)


def lives_on(peer: OddPeer, is_well: Callable[[], bool], seed: int) -> None:
    """It asks on while the answers are odd, and is well once they are honest."""
    for _ in range(2):
        enough, peer.honest = peer.asked + ODD, False
        wait_for(partial(peer.has_been_asked, enough), f"seed {seed}: it asks no more")
        enough, peer.honest = peer.asked + 5, True
        wait_for(partial(peer.has_been_asked, enough), f"seed {seed}: it asks no more")
        wait_for(is_well, f"seed {seed}: it is not well")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


@pytest.mark.parametrize("seed", range(4))
def test_workers(seed: int) -> None:
    with odd_peer(seed, honest) as peer:
        workers = Workers([peer.url])
        peer.honest = False
        workers.start()
        lives_on(peer, lambda: workers.models() == ["tiny"], seed)
        workers.stop()


@pytest.mark.parametrize("seed", range(4))
def test_secret_services(seed: int) -> None:
    with odd_peer(seed, honest) as peer:
        services = SecretServices([peer.url])
        peer.honest = False
        services.start()
        lives_on(peer, lambda: len(services.reply().services) == 1, seed)
        services.stop()


@pytest.mark.parametrize("seed", range(4))
def test_clocks(seed: int) -> None:
    with odd_peer(seed, honest) as peer:
        clocks = Clocks({"worker-1": peer.url})
        clocks.start()
        lives_on(peer, lambda: abs(clocks.skew().get("worker-1", 999)) < 60, seed)
        clocks.stop()


def test_a_clock_behind_an_endless_body_is_none(peer: Peer) -> None:
    """The loop looks at all machines: one of them must not hold it."""
    head = f"HTTP/1.1 200 OK\r\nDate: {formatdate(usegmt=True)}\r\n\r\n".encode()
    peer.sends("/healthz", head + bytes(1 << 20))
    clocks = Clocks({"worker-1": peer.url})
    clocks.look()
    assert clocks.skew() == {}


@pytest.mark.parametrize(
    "body",
    [b'{"role":1}', b"null", b'{"role":"worker-cpu","models":{"A B":"ready"}}', b"\xff\xfe",
     b"1e999999", b'{"role":"worker-cpu","models":{"tiny":1}}', DEEP, b"9" * 5000],
    ids=lambda body: repr(body)[:20],
)  # fmt: skip
def test_a_worker_with_an_odd_health_serves_nothing(peer: Peer, body: bytes) -> None:
    peer.is_worker("tiny")
    worker = Worker(peer.url)
    worker.look()
    assert worker.models == {"tiny"}
    peer.says("/healthz", body[: 1 << 16])
    worker.look()
    assert worker.models == set()


@pytest.mark.parametrize("kind", [RecursionError, MemoryError, SystemExit, ValueError])
def test_a_look_that_fails_in_a_way_that_nobody_knows(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    """A worker of which nothing is known serves nothing, and the next look counts again."""
    peer.is_worker("tiny")
    workers = Workers([peer.url])
    workers.start()
    assert workers.models() == ["tiny"]
    plain = workers.peers[0]._take_offer

    def fail() -> None:
        raise kind

    monkeypatch.setattr(workers.peers[0], "_take_offer", fail)
    wait_for(lambda: workers.models() == [], "it is believed")
    monkeypatch.setattr(workers.peers[0], "_take_offer", plain)
    wait_for(lambda: workers.models() == ["tiny"], "nobody looks any more")
    workers.stop()
