"""Which worker gets a request."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from confide.errors import FormatError, UnavailableError
from confide.host.gateway import routing
from confide.host.gateway.routing import Workers
from tests.support.peer import Peer
from tests.support.programs import free_port


def looked_at(*peers: Peer) -> Workers:
    workers = Workers([peer.url for peer in peers])
    workers.start()
    workers.stop()
    return workers


def urls(workers: Workers, model: str, shard_key: str = "") -> list[str]:
    return [worker.url for worker in workers.candidates(model, shard_key)]


def test_only_workers_that_serve_the_model(new_peer: Callable[[], Peer]) -> None:
    one, two = new_peer(), new_peer()
    one.is_worker("a", "b")
    two.is_worker("b")
    workers = looked_at(one, two)
    assert workers.models() == ["a", "b"]
    assert urls(workers, "a") == [one.url]
    assert set(urls(workers, "b")) == {one.url, two.url}


def test_a_model_that_nobody_serves(peer: Peer) -> None:
    peer.is_worker("a")
    with pytest.raises(UnavailableError) as caught:
        looked_at(peer).candidates("c", "")
    assert caught.value.code == "no-worker"
    assert caught.value.expected == "a"


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
    peer.says("/healthz", health)
    assert looked_at(peer).models() == []


def test_a_model_that_is_ready_does_not_wait_for_another_one(peer: Peer) -> None:
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
    assert urls(workers, "a") == [peer.url]


def test_a_worker_comes_and_goes(peer: Peer) -> None:
    peer.is_worker("a", state="starting")
    workers = looked_at(peer)
    (worker,) = workers._workers
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
    (worker,) = workers._workers
    peer.answers["/healthz"] = lambda _: time.sleep(0.2)
    for _ in range(2):
        worker.look()
        assert workers.models() == ["a"]
    worker.look()
    assert workers.models() == []
    peer.is_worker("a")
    worker.look()
    assert workers.models() == ["a"]


def test_a_shard_key_stays_with_its_worker(new_peer: Callable[[], Peer]) -> None:
    peers = [new_peer() for _ in range(4)]
    for peer in peers:
        peer.is_worker("a")
    workers = looked_at(*peers)
    keys = [f"customer-{number}" for number in range(400)]
    first = {key: urls(workers, "a", key)[0] for key in keys}
    assert first == {key: urls(workers, "a", key)[0] for key in keys}
    spread = Counter(first.values())
    assert len(spread) == 4 and min(spread.values()) > 50

    # When one goes, only its keys move.
    gone = peers[0]
    gone.is_worker()
    for worker in workers._workers:
        worker.look()
    moved = [key for key in keys if urls(workers, "a", key)[0] != first[key]]
    assert set(moved) == {key for key in keys if first[key] == gone.url}


def test_without_a_shard_key_the_least_busy_one(new_peer: Callable[[], Peer]) -> None:
    one, two = new_peer(), new_peer()
    one.is_worker("a")
    two.is_worker("a")
    workers = looked_at(one, two)
    first = workers.candidates("a", "")[0]
    with workers.busy(first):
        assert workers.candidates("a", "")[0] is not first
    assert first.in_flight == 0


@pytest.mark.parametrize("model", ["", "a b", "A", "a\n", "x" * 100])
def test_names_that_are_none(peer: Peer, model: str) -> None:
    peer.is_worker("a")
    workers = looked_at(peer)
    with pytest.raises(FormatError):
        workers.candidates(model, "")
    if model:
        with pytest.raises(FormatError):
            workers.candidates("a", model)
