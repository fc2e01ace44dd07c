"""`python -m confide.worker`: the worker's encryption proxy, in its guest.

Model disks are opened and the engine is started by other units; this program only asks the engine
whether it is ready.
"""

from __future__ import annotations

from confide.errors import UnavailableError
from confide.formats.secrets import ReleasedKey
from confide.issue.platform import detect_attester
from confide.mesh.client import CoordinatorClient
from confide.mesh.config import read_config
from confide.mesh.join import Node
from confide.secret_service.client import fetch_key
from confide.server import Service, serve
from confide.upstream import Upstream
from confide.worker.app import create_app
from confide.worker.encryption_proxy import EncryptionProxy
from confide.worker.keys import Keys

ROLE = "worker-cpu"
ENGINE = "http://127.0.0.1:8100"
THREADS = 64


def create_service() -> Service:
    """Start joining the mesh and return the HTTP face."""
    config = read_config()
    coordinator = CoordinatorClient(config.coordinator)
    node = Node(ROLE, detect_attester(), coordinator, models=config.models)
    node.start()
    engine = Upstream(ENGINE)
    health = Upstream(ENGINE, connect_seconds=1.0, read_seconds=5.0, idle_connections=1)

    def fetch(key_id: bytes) -> ReleasedKey:
        return fetch_key(config.secret_service, node.membership(), key_id)

    def state() -> str:
        if node.state != "ready":
            return node.state
        try:
            status, _, _ = health.call("GET", "/health")
        except UnavailableError:
            return "engine-not-there"
        return "ready" if status == 200 else "engine-not-ready"

    proxy = EncryptionProxy(membership=node.membership, keys=Keys(fetch), engine=engine)
    return Service(create_app(proxy, role=ROLE, models=config.models, state=state))


if __name__ == "__main__":
    serve(create_service, listen="0.0.0.0:8000", threads=THREADS)
