"""The child process of tests.support.programs: a role program on a SIMULATED machine."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from confide.guest.clock import watched_clock
from confide.guest.coordinator.__main__ import CAPACITY
from confide.guest.coordinator.app import create_app
from confide.guest.coordinator.domain import Coordinator
from confide.guest.mesh import join, one_mesh
from confide.guest.mesh.join import Node
from confide.guest.mesh.tls import server_context
from confide.guest.secret_service.app import create_public_app, create_worker_app
from confide.guest.secret_service.domain import SecretService
from confide.net.coordinator_client import CoordinatorClient
from confide.net.server import Service, serve
from tests.support.simulated_machine import SimulatedMachine
from tests.support.slow_machine import SlowMachine


def machine_of(role: str) -> SimulatedMachine:
    return SimulatedMachine(role, manifest=Path(sys.argv[4]).read_bytes(), now=int(time.time()))


def coordinator() -> Service:
    machine = machine_of("coordinator")
    if "slow" in sys.argv:
        manifest = Path(sys.argv[4]).read_bytes()
        machine = SlowMachine(2.0, manifest=manifest, now=int(time.time()))
    coordinator = Coordinator(machine, binding=machine.binding, now=watched_clock())
    return Service(create_app(coordinator))


def hasty_monotonic() -> float:
    """An hour in a second: what was certified ends before it is renewed."""
    return time.monotonic() * 3600


def secret_service() -> Service:
    machine = machine_of("secret-service")
    node = Node(
        "secret-service",
        machine,
        CoordinatorClient(sys.argv[5]),
        binding=machine.binding,
        now=watched_clock(),
        monotonic=hasty_monotonic if "expiring" in sys.argv else time.monotonic,
    )
    service = SecretService(node.kem)
    if "renewing" in sys.argv:
        join.RENEW_AFTER = 1
    if "hasty" in sys.argv:
        join.LOOK_AFTER, one_mesh.GONE_AFTER = 0.2, 1.0
    node.start()
    return Service(
        create_public_app(service, node),
        tls=(create_worker_app(service, node), lambda: server_context(node.membership())),
    )


if __name__ == "__main__":
    listen, tls_listen = (f"127.0.0.1:{port}" for port in sys.argv[2:4])
    if sys.argv[1] == "coordinator":
        serve(coordinator, listen=listen, capacity=CAPACITY)
    else:
        serve(secret_service, listen=listen, tls_listen=tls_listen)
