"""`python -m confide.guest.worker`: the worker's encryption proxy, in its guest.

It starts when the disk mounter has opened the model disks. The engines run in another unit: this
program only reads their states.
"""

from __future__ import annotations

from collections.abc import Mapping

from confide.errors import UnavailableError
from confide.guest.attest.hardware import detect_attester
from confide.guest.binding import read_binding
from confide.guest.inventory.program import serve_if_unbound
from confide.guest.mesh.config import read_config
from confide.guest.mesh.join import Gpus, Node
from confide.guest.secret_service.client import fetch_key
from confide.guest.worker.app import create_app
from confide.guest.worker.encryption_proxy import EncryptionProxy, under_manifest
from confide.guest.worker.engine.engines import Engines
from confide.guest.worker.engine.models_file import MODELS_FILE, parse_models
from confide.guest.worker.keys import Keys
from confide.guest.worker.role import read_role
from confide.net.coordinator_client import CoordinatorClient
from confide.net.http_client import STREAM_THREADS
from confide.net.server import Service, serve
from confide.protocol.secret_service import ReleasedKey


def create_service() -> Service:
    """Start joining the mesh and return the HTTP app."""
    role, config = read_role(), read_config()
    manifest_sha256, served = parse_models(MODELS_FILE.read_bytes())
    models = tuple(model.name for model in served)
    coordinator = CoordinatorClient(config.coordinator)
    node = Node(
        role,
        detect_attester(),
        coordinator,
        binding=read_binding(),
        models=models,
        gpus=_attested_gpus(role) if role.has_gpus else None,
    )
    node.start()
    membership = under_manifest(node.membership, manifest_sha256)
    engines = Engines(models)

    def fetch(key_id: bytes) -> ReleasedKey:
        return fetch_key(config.secret_service, membership(), key_id)

    def states() -> Mapping[str, str]:
        try:
            membership()
        except UnavailableError as error:
            not_attested = error.code == "not-attested"
            return dict.fromkeys(
                models, (node.reason or node.state) if not_attested else error.code
            )
        return engines.states()

    proxy = EncryptionProxy(membership=membership, keys=Keys(fetch), engine=engines.engine)
    return Service(create_app(proxy, role=role, states=states))


def _attested_gpus(role: str) -> Gpus:
    # Imported here: an emulated machine has no GPU.
    from confide.guest.attest.gpus import RemoteGpus
    from confide.guest.mesh.gpus import AttestedGpus

    return AttestedGpus(RemoteGpus(), role)


if __name__ == "__main__":
    serve_if_unbound()
    serve(create_service, listen="0.0.0.0:8000", threads=STREAM_THREADS)
