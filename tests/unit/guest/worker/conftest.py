"""An encryption proxy in this process, with a FAKE engine in another one, and a client's key."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from confide.guest.coordinator.domain import Coordinator
from confide.guest.mesh.join import Membership, Node
from confide.net.http_client import Upstream
from tests.support.local_coordinator import LocalCoordinator
from tests.support.native_service import Processes
from tests.support.sealed_worker import Client, Worker
from tests.support.simulated_machine import SimulatedMachine, current_manifest, manifest_value


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Processes(tmp_path_factory.mktemp("engine")) as processes:
        url = processes.start_engine()
        health = Upstream(url)
        deadline = time.monotonic() + 20
        while True:
            try:
                health.call("GET", "/health")
                break
            except Exception:
                assert time.monotonic() < deadline, processes.log("engine")
                time.sleep(0.05)
        yield url


@pytest.fixture(scope="session")
def relay() -> LocalCoordinator:
    tiny = manifest_value()["models"][0]
    manifest = current_manifest(models=[tiny, tiny | {"name": "second"}])
    host = SimulatedMachine("coordinator", manifest=manifest, now=int(time.time()))
    coordinator = Coordinator(host, binding=host.binding)
    coordinator.set_manifest(manifest)
    return LocalCoordinator(coordinator)


def joined(relay: LocalCoordinator) -> Node:
    manifest = relay.mesh().manifest
    machine = SimulatedMachine("worker-cpu", manifest=manifest, now=int(time.time()))
    node = Node("worker-cpu", machine, relay, binding=machine.binding, models=("second", "tiny"))
    node.join()
    return node


@pytest.fixture(scope="session")
def node(relay: LocalCoordinator) -> Node:
    return joined(relay)


@pytest.fixture(scope="session")
def other_node(relay: LocalCoordinator) -> Node:
    """Another worker of the same mesh, with the same models."""
    return joined(relay)


@pytest.fixture(scope="session")
def membership(node: Node) -> Membership:
    return node.membership()


@pytest.fixture
def worker(engine: str, node: Node) -> Worker:
    return Worker(engine, node)


@pytest.fixture
def client(worker: Worker) -> Client:
    return Client(worker)
