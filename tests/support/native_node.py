"""One node of a SIMULATED service on this machine: the real programs, a simulated attester.

What a guest gets from its TPM comes from tests/support/simulated_machine.py, and nothing was
measured. All else (joining, certificates, mutual TLS, keys, sealing) is the real code.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from confide.guest.clock import watched_clock
from confide.guest.coordinator import app as coordinator_app
from confide.guest.coordinator.__main__ import CAPACITY as COORDINATOR
from confide.guest.coordinator.domain import Coordinator
from confide.guest.forget import forget_each_second
from confide.guest.mesh import join, one_mesh
from confide.guest.mesh.join import Node
from confide.guest.mesh.tls import server_context
from confide.guest.secret_service.app import create_public_app, create_worker_app
from confide.guest.secret_service.client import SecretServices
from confide.guest.secret_service.domain import SecretService
from confide.guest.worker.app import create_app
from confide.guest.worker.encryption_proxy import EncryptionProxy
from confide.guest.worker.keys import Keys
from confide.net.coordinator_client import CoordinatorClient
from confide.net.http_client import STREAMS, Upstream
from confide.net.server import Capacity, Service, serve
from confide.protocol.frames import WAIT_SECONDS
from tests.support.simulated_machine import SimulatedMachine

CAPACITIES = {
    "coordinator": COORDINATOR,
    "secret-service": Capacity(),
    "worker": Capacity(STREAMS, measured=True),
}


def machine_of(role: str, arguments: argparse.Namespace) -> SimulatedMachine:
    return SimulatedMachine(role, manifest=arguments.manifest.read_bytes(), now=int(time.time()))


def coordinator(arguments: argparse.Namespace) -> Service:
    machine = machine_of("coordinator", arguments)
    coordinator = Coordinator(machine, binding=machine.binding, now=watched_clock())
    return Service(coordinator_app.create_app(coordinator))


def secret_service(arguments: argparse.Namespace) -> Service:
    machine = machine_of("secret-service", arguments)
    node = Node(
        "secret-service",
        machine,
        CoordinatorClient(arguments.coordinator),
        binding=machine.binding,
        now=watched_clock(),
    )
    service = SecretService(node.kem)
    node.start()
    forget_each_second(service.forget)
    return Service(
        create_public_app(service, node),
        tls=(create_worker_app(service, node), lambda: server_context(node.membership())),
    )


def worker(arguments: argparse.Namespace) -> Service:
    models = tuple(arguments.model)
    machine = machine_of("worker-cpu", arguments)
    node = Node(
        "worker-cpu",
        machine,
        CoordinatorClient(arguments.coordinator),
        binding=machine.binding,
        models=models,
        now=watched_clock(),
    )
    node.start()

    engine = Upstream(arguments.engine)
    services = SecretServices(arguments.secret_service, node.membership)
    keys = Keys(services.fetch, node.kem)
    forget_each_second(keys.forget)
    proxy = EncryptionProxy(
        membership=node.membership,
        keys=keys,
        engine=lambda _: engine,
        wait_seconds=arguments.wait_seconds,
    )
    states = lambda: dict.fromkeys(models, node.state)  # noqa: E731
    app = create_app(proxy, role="worker-cpu", membership=node.membership, states=states)
    return Service(app)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("coordinator", "secret-service", "worker"))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--hasty", action="store_true", help="renew often, and end soon after the mesh has gone"
    )
    parser.add_argument(
        "--manifest", type=Path, required=True, help="what the machine was launched for"
    )
    parser.add_argument("--tls-port", type=int)
    parser.add_argument("--coordinator")
    parser.add_argument("--secret-service", action="append", default=[])
    parser.add_argument("--engine")
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--wait-seconds", type=float, default=WAIT_SECONDS)
    arguments = parser.parse_args()
    if arguments.hasty:
        join.RENEW_AFTER, join.LOOK_AFTER, one_mesh.GONE_AFTER = 20, 0.5, 3.0
    create = {"coordinator": coordinator, "secret-service": secret_service, "worker": worker}
    tls = f"{arguments.host}:{arguments.tls_port}" if arguments.tls_port else None
    serve(
        lambda: create[arguments.role](arguments),
        listen=f"{arguments.host}:{arguments.port}",
        tls_listen=tls,
        capacity=CAPACITIES[arguments.role],
    )


if __name__ == "__main__":
    main()
