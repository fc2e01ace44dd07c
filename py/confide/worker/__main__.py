"""`python -m confide.worker`: the worker's encryption proxy, in its guest.

It starts when the disk mounter has opened the model disks. The engine is a unit of its own; this
program only asks it whether it is ready.
"""

from __future__ import annotations

from confide.errors import ConfideError, UnavailableError
from confide.formats.secrets import ReleasedKey
from confide.issue.platform import detect_attester
from confide.mesh.client import CoordinatorClient
from confide.mesh.config import read_config
from confide.mesh.join import Node
from confide.secret_service.client import fetch_key
from confide.server import Service, serve
from confide.upstream import Upstream
from confide.worker.app import create_app
from confide.worker.encryption_proxy import EncryptionProxy, under_manifest
from confide.worker.keys import Keys
from confide.worker.models_file import MODELS_FILE, parse_models

ROLE = "worker-cpu"
ENGINE = "http://127.0.0.1:8100"
THREADS = 64


def create_service() -> Service:
    """Start joining the mesh and return the HTTP face."""
    config = read_config()
    manifest_sha256, served = parse_models(MODELS_FILE.read_bytes())
    models = tuple(model.name for model in served)
    coordinator = CoordinatorClient(config.coordinator)
    node = Node(ROLE, detect_attester(), coordinator, models=models)
    node.start()
    membership = under_manifest(node.membership, manifest_sha256)
    engine = Upstream(ENGINE)
    health = Upstream(ENGINE, connect_seconds=1.0, read_seconds=8.0, idle_connections=1)

    def fetch(key_id: bytes) -> ReleasedKey:
        return fetch_key(config.secret_service, membership(), key_id)

    def state() -> str:
        try:
            membership()
        except UnavailableError as error:
            return node.state if error.code == "not-attested" else error.code
        try:
            status, _, _ = health.call("GET", "/health")
        except ConfideError:
            return "engine-not-there"
        return "ready" if status == 200 else "engine-not-ready"

    proxy = EncryptionProxy(membership=membership, keys=Keys(fetch), engine=engine)
    return Service(create_app(proxy, role=ROLE, models=models, state=state))


if __name__ == "__main__":
    serve(create_service, listen="0.0.0.0:8000", threads=THREADS)
