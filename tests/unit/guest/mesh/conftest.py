"""A coordinator, a node that reaches it, and the clocks of both."""

from __future__ import annotations

import pytest

from confide.guest.mesh.join import Node
from tests.support.local_coordinator import LocalCoordinator
from tests.support.mesh_nodes import new_coordinator, new_node
from tests.support.simulated_machine import Clock, SimulatedMachine


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def monotonic() -> Clock:
    return Clock(100)


@pytest.fixture
def relay(clock: Clock) -> LocalCoordinator:
    return LocalCoordinator(new_coordinator(clock))


@pytest.fixture
def machine() -> SimulatedMachine:
    return SimulatedMachine("worker-cpu")


@pytest.fixture
def node(
    relay: LocalCoordinator, clock: Clock, monotonic: Clock, machine: SimulatedMachine
) -> Node:
    return new_node(relay, clock, monotonic, machine=machine)
