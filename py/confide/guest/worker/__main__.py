"""`python -m confide.guest.worker`: the worker's encryption proxy, in its guest.

It joins first. Then it hands the manifest to the disk mounter, which opens the models, and the
engines start. Both run in other units: this program only reads how far they are.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from confide.errors import UnavailableError
from confide.guest.attest.hardware import detect_attester
from confide.guest.binding import read_binding
from confide.guest.clock import WallClock, watched_clock
from confide.guest.forget import forget_each_second
from confide.guest.inventory.program import serve_if_unbound
from confide.guest.mesh.config import read_config
from confide.guest.mesh.join import Gpus, Node
from confide.guest.secret_service.client import SecretServices
from confide.guest.worker.app import create_app
from confide.guest.worker.disks.handover import hand_over
from confide.guest.worker.encryption_proxy import EncryptionProxy
from confide.guest.worker.engine.engines import Engines
from confide.guest.worker.engine.models_file import MODELS_FILE
from confide.guest.worker.engine.states import EngineState
from confide.guest.worker.keys import Keys
from confide.guest.worker.role import read_role
from confide.net.coordinator_client import CoordinatorClient
from confide.net.http_client import STREAMS
from confide.net.loops import start_loop
from confide.net.server import Capacity, Service, serve

POLL_SECONDS = 0.2
"""Seconds between two looks whether this machine has joined."""


def create_service() -> Service:
    """Start joining the mesh and return the HTTP app."""
    role, config = read_role(), read_config()
    models = config.models
    coordinator = CoordinatorClient(config.coordinator)
    clock = watched_clock()
    node = Node(
        role,
        detect_attester(),
        coordinator,
        binding=read_binding(),
        models=models,
        gpus=_attested_gpus(role, clock) if role.has_gpus else None,
        now=clock,
    )
    node.start()
    _hand_over_once_joined(node)
    engines = Engines(models)

    def states() -> Mapping[str, str]:
        if node.state != "ready":
            return dict.fromkeys(models, node.reason or node.state)
        if not MODELS_FILE.exists():
            return dict.fromkeys(models, EngineState.NOT_OPEN)
        return engines.states()

    services = SecretServices(config.secret_services, node.membership)
    keys = Keys(services.fetch, node.kem)
    forget_each_second(keys.forget)
    proxy = EncryptionProxy(membership=node.membership, keys=keys, engine=engines.engine)
    return Service(create_app(proxy, role=role, membership=node.membership, states=states))


def _hand_over_once_joined(node: Node) -> None:
    done = threading.Event()

    def step() -> float:
        try:
            hand_over(node.membership().manifest)
        except UnavailableError:
            return POLL_SECONDS
        done.set()
        return 0.0

    start_loop("handing the manifest over", step, stop=done)


def _attested_gpus(role: str, clock: WallClock) -> Gpus:
    # Imported here: an emulated machine has no GPU.
    from confide.guest.attest.gpus import RemoteGpus
    from confide.guest.mesh.gpus import AttestedGpus

    return AttestedGpus(RemoteGpus(), role, now=clock)


if __name__ == "__main__":
    serve_if_unbound()
    serve(create_service, listen="0.0.0.0:8000", capacity=Capacity(STREAMS, measured=True))
