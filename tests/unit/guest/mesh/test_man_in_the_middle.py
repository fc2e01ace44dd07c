"""A whole node program with a man in the middle, over HTTP. `tests/e2e` has the same, booted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from confide.net.coordinator_client import CoordinatorClient
from tests.support.lying_relay import LyingRelay, honest, with_cas_of
from tests.support.programs import Program, program
from tests.support.simulated_machine import current_manifest

MANIFEST = current_manifest()


@pytest.fixture
def start_coordinator(tmp_path: Path) -> Iterator[Callable[[], Program]]:
    with ExitStack() as stack:

        def start() -> Program:
            coordinator = stack.enter_context(program("coordinator", tmp_path, MANIFEST))
            coordinator.wait("no-manifest")
            CoordinatorClient(coordinator.url).set_manifest(MANIFEST)
            return coordinator

        yield start


@pytest.fixture
def relay(start_coordinator: Callable[[], Program]) -> Iterator[LyingRelay]:
    with LyingRelay(start_coordinator().url) as relay:
        yield relay


def wait_for_reason(node: Program, reason: str) -> None:
    deadline = time.monotonic() + 30
    while node.health()["reason"] != reason:
        assert time.monotonic() < deadline, node.log.read_text()
        time.sleep(0.05)


def test_a_relay_gets_no_evidence_and_a_new_mesh_ends_the_program(
    tmp_path: Path, start_coordinator: Callable[[], Program], relay: LyingRelay
) -> None:
    other = start_coordinator()
    relay.alter = with_cas_of(other.url)
    with program("secret-service", tmp_path, MANIFEST, relay.url, "hasty") as node:
        node.wait("starting")
        wait_for_reason(node, "coordinator-not-verified")
        assert not {"/v1/challenge", "/v1/join"} & set(relay.asked)
        relay.alter = honest
        node.wait("ready")
        relay.target = other.url
        assert node.process.wait(30) == 1
        said = node.log.read_text()
    assert "'quote binding' failed" in said
    assert "confide: this machine ends: the mesh is gone" in said
    assert said.count("confide: joined the mesh") == 1
