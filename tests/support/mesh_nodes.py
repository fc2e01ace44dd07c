"""SIMULATED coordinators and nodes of one manifest, with clocks that a test turns."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from confide.guest.coordinator.domain import Coordinator
from confide.guest.mesh.join import JoinClient, Node
from tests.support.simulated_machine import MODEL, Clock, SimulatedMachine, manifest_bytes

MANIFEST = manifest_bytes()
BINDING = sha256(MANIFEST).digest()


def new_coordinator(
    clock: Clock, *, manifest: bytes = MANIFEST, machine: SimulatedMachine | None = None
) -> Coordinator:
    """A coordinator that has its manifest, on a genuine machine unless another is given."""
    machine = machine or SimulatedMachine("coordinator", manifest=manifest)
    coordinator = Coordinator(machine, binding=sha256(manifest).digest(), now=clock)
    coordinator.set_manifest(manifest)
    return coordinator


def new_node(
    client: JoinClient,
    clock: Clock,
    monotonic: Clock,
    *,
    machine: SimulatedMachine | None = None,
    **options: Any,
) -> Node:
    """A CPU worker that was launched for MANIFEST."""
    return Node(
        "worker-cpu",
        machine or SimulatedMachine("worker-cpu"),
        client,
        binding=BINDING,
        models=(MODEL,),
        now=clock,
        monotonic=monotonic,
        **options,
    )
