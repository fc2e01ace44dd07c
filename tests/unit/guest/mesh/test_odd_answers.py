"""The thread that keeps a machine in its mesh lives on, whatever a coordinator answers."""

from __future__ import annotations

import json
import time

import pytest

from confide.errors import UnavailableError
from confide.guest.coordinator.app import create_app
from confide.guest.mesh import join as join_module
from confide.guest.mesh.join import Node
from confide.net import loops
from confide.net.coordinator_client import CoordinatorClient
from tests.support.local_coordinator import LocalCoordinator
from tests.support.mesh_nodes import new_node
from tests.support.odd_answers import odd_peer
from tests.support.simulated_machine import Clock

ODD = 60
"""Answers of each phase."""


def recovers(node: Node) -> bool:
    deadline = time.monotonic() + 30
    while node.reason or node.state != "ready":
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("seed", range(4))
def test_a_coordinator_that_answers_anything(
    relay: LocalCoordinator,
    clock: Clock,
    monotonic: Clock,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    """Before the machine has joined, and after it."""
    monkeypatch.setattr(join_module, "LOOK_AFTER", 0.001)
    monkeypatch.setattr(join_module, "MAX_BACKOFF", 0.001)
    monkeypatch.setattr(loops, "FIRST_PAUSE", 0.001)
    http = create_app(relay.coordinator).test_client()

    def honest(path: str, body: bytes) -> tuple[int, str, bytes]:
        asks = path in ("/v1/manifest", "/v1/collateral")
        answer = http.get(path) if asks else http.post(path, data=body)
        return answer.status_code, answer.content_type, answer.data

    with odd_peer(seed, honest) as peer:
        peer.honest = False
        node = new_node(CoordinatorClient(peer.url), clock, monotonic)
        node.start()
        for phase in ("before", "after"):
            enough = peer.asked + ODD
            deadline = time.monotonic() + 60
            while peer.asked < enough:
                assert time.monotonic() < deadline, f"seed {seed}: it asks no more, {phase}"
                time.sleep(0.01)
            peer.honest = True
            assert recovers(node), f"seed {seed}: {node.reason}, {phase}"
            peer.honest = False
        assert node.membership().role == "worker-cpu"
        # Stop the thread's work: the peer is going away.
        monkeypatch.setattr(join_module, "LOOK_AFTER", 3600.0)


@pytest.mark.parametrize(
    "part", [None, 1, True, [], {}, "\x1b[2J", "x" * 5000, "a\nb"], ids=lambda part: repr(part)[:9]
)
@pytest.mark.parametrize("name", ["code", "message", "expected", "seen", "next"])
def test_an_error_with_an_odd_part_is_a_plain_one(name: str, part: object) -> None:
    """One of these ended the thread for good, and with it the membership an hour later."""
    words = dict.fromkeys(("code", "message", "expected", "seen", "next"), "x") | {name: part}
    body = json.dumps({"error": words}).encode()
    with odd_peer(0, lambda *_: (503, "application/json", body)) as peer:
        client = CoordinatorClient(peer.url)
        with pytest.raises(UnavailableError) as caught:
            client.mesh()
    assert caught.value.code == "not-confide"
    assert str(caught.value).isprintable()
