"""Which workers a gateway lists, and which one it finds for a request."""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256

import pytest

from confide.host.gateway import routing
from confide.host.gateway.routing import Workers
from confide.protocol.workers import MAX_WORKERS, WorkerList, rounded_load
from tests.support.peer import Peer
from tests.support.programs import free_port
from tests.support.simulated_machine import manifest_bytes, manifest_value
from tests.support.small_service import SmallService

MODEL = manifest_value()["models"][0]


def looked_at(*peers: Peer) -> Workers:
    workers = Workers([peer.url for peer in peers])
    workers.start()
    workers.stop()
    return workers


def listed(workers: Workers, *models: str) -> dict[bytes, tuple[str, ...]]:
    """The ids of the list for these models, and for what each one is listed."""
    encoded, digest = workers.list_for(models)
    assert digest == sha256(encoded).hexdigest()
    return {worker.worker: worker.models for worker in WorkerList.parse(encoded).workers}


def test_only_workers_that_serve_the_model(new_peer: Callable[[], Peer]) -> None:
    one, two = new_peer(), new_peer()
    first, second = one.is_worker("a", "b"), two.is_worker("b")
    workers = looked_at(one, two)
    assert workers.models() == ["a", "b"]
    assert listed(workers, "a") == {first: ("a",)}
    assert listed(workers, "b") == {first: ("b",), second: ("b",)}
    assert listed(workers, "b", "a") == {first: ("a", "b"), second: ("b",)}
    assert listed(workers) == listed(workers, "c") == {}


def test_the_largest_list_fits() -> None:
    """256 workers, each with 16 models of the longest names."""
    names = [f"{number:x}".ljust(64, "x") for number in range(16)]
    service = SmallService(
        manifest=manifest_bytes(models=[MODEL | {"name": name} for name in names]),
        models=tuple(names),
    )
    encoded = WorkerList(service.listed() * MAX_WORKERS).encode()
    assert len(WorkerList.parse(encoded).workers) == MAX_WORKERS


def test_clients_do_not_choose_how_many_lists_are_kept(peer: Peer) -> None:
    """The names in a query are theirs. Each list may have a megabyte."""
    peer.is_worker("a", "b")
    workers = looked_at(peer)
    for number in range(50):
        assert listed(workers, f"x{number}") == {}
        assert len(listed(workers, "a", "b", f"x{number}")) == 1
    listed(workers, "a")
    assert len(workers._lists) == 1


def test_what_a_list_says_is_what_the_worker_said(peer: Peer) -> None:
    name = peer.is_worker("a", load=4)
    (entry,) = WorkerList.parse(looked_at(peer).list_for(["a"])[0]).workers
    assert (entry.worker, entry.load) == (name, 4)
    assert (entry.certificate, entry.kem_public_key) == (peer.leaf, peer.kem.public_bytes)


def test_a_worker_is_found_by_its_name(new_peer: Callable[[], Peer]) -> None:
    one, two = new_peer(), new_peer()
    first, second = one.is_worker("a", "b"), two.is_worker("b")
    workers = looked_at(one, two)
    found = workers.find(second, "b")
    assert found is not None and found.url == two.url
    assert workers.find(first, "a") and not workers.find(second, "a")
    assert workers.find(bytes(32), "a") is None


def test_the_list_changes_with_the_worker(peer: Peer) -> None:
    peer.is_worker("a")
    workers = looked_at(peer)
    (worker,) = workers.peers
    hashes = [workers.list_for(["a"])[1]]

    def look() -> None:
        worker.look()
        workers.looked()
        hashes.append(workers.list_for(["a"])[1])

    look()
    assert len(set(hashes)) == 1, "nothing has changed"
    peer.is_worker("a", load=2)
    look()
    peer.renews()
    peer.is_worker("a", load=2)
    look()
    workers.lost(worker)
    hashes.append(workers.list_for(["a"])[1])
    assert len(set(hashes)) == 4


@pytest.mark.parametrize(
    ("requests", "load"),
    [(0, 0), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (1000, 1024), (1 << 20, 1 << 20)],
)
def test_rounded_load(requests: int, load: int) -> None:
    assert rounded_load(requests) == load


@pytest.mark.parametrize("offer", [b"", b"x", b"\xa0", b"x" * 100_000])
def test_a_worker_without_a_certificate_is_not_listed(peer: Peer, offer: bytes) -> None:
    peer.is_worker("a")
    peer.says("/v1/worker", offer)
    assert looked_at(peer).models() == []
    peer.says("/v1/worker", offer, status=503)
    assert looked_at(peer).models() == []


@pytest.mark.parametrize(
    "health",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"role": "worker-cpu", "state": "ready", "models": "a"}',
        b'{"role": "worker-cpu", "state": "ready", "models": ["a"]}',
        b'{"role": "worker-cpu", "state": "ready", "models": {"a": 1}}',
        b'{"role": "worker-cpu", "state": "ready", "models": {"../a": "ready"}}',
        b'{"role": "worker-cpu", "state": "starting", "models": {"a": "starting"}}',
        b'{"role": "worker-cpu", "state": "ready", "models": {"a": "starting"}}',
        b'{"role": "coordinator", "state": "ready", "models": {"a": "ready"}}',
        b"x" * 100_000,
    ],
)
def test_health_that_is_none(peer: Peer, health: bytes) -> None:
    peer.is_worker("a")
    peer.says("/healthz", health)
    assert looked_at(peer).models() == []


def test_a_model_that_is_ready_does_not_wait_for_another_one(peer: Peer) -> None:
    peer.is_worker()
    peer.says(
        "/healthz",
        b'{"role": "worker-gpu", "state": "engine-ended",'
        b' "models": {"a": "ready", "b": "engine-ended"}}',
    )
    assert looked_at(peer).models() == ["a"]


def test_a_worker_that_is_not_there(peer: Peer) -> None:
    peer.is_worker("a")
    workers = Workers([f"http://127.0.0.1:{free_port()}", peer.url])
    workers.start()
    workers.stop()
    assert len(listed(workers, "a")) == 1


def test_a_worker_comes_and_goes(peer: Peer) -> None:
    peer.is_worker("a", state="starting")
    workers = looked_at(peer)
    (worker,) = workers.peers
    peer.is_worker("a")
    worker.look()
    assert workers.models() == ["a"]
    peer.says("/healthz", b"", status=500)
    worker.look()
    assert workers.models() == []


def test_a_slow_worker_is_not_a_lost_one(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "PATIENCE_SECONDS", 0.05)
    peer.is_worker("a")
    workers = looked_at(peer)
    (worker,) = workers.peers
    peer.answers["/healthz"] = lambda _: time.sleep(0.2)
    for _ in range(2):
        worker.look()
        assert workers.models() == ["a"]
    worker.look()
    assert workers.models() == []
    peer.is_worker("a")
    worker.look()
    assert workers.models() == ["a"]
