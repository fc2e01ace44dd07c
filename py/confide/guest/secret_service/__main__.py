"""`python -m confide.guest.secret_service`: the secret service's program, in its guest."""

from __future__ import annotations

from confide.guest.attest.hardware import detect_attester
from confide.guest.binding import read_binding
from confide.guest.clock import watched_clock
from confide.guest.forget import forget_each_second
from confide.guest.inventory.program import serve_if_unbound
from confide.guest.mesh.config import read_config
from confide.guest.mesh.join import Node
from confide.guest.mesh.tls import server_context
from confide.guest.secret_service.app import create_public_app, create_worker_app
from confide.guest.secret_service.domain import SecretService
from confide.net.coordinator_client import CoordinatorClient
from confide.net.server import Service, serve
from confide.protocol.roles import Role


def create_service() -> Service:
    """Start joining the mesh, and return both HTTP apps."""
    client = CoordinatorClient(read_config().coordinator)
    node = Node(
        Role.SECRET_SERVICE,
        detect_attester(),
        client,
        binding=read_binding(),
        now=watched_clock(),
    )
    service = SecretService(node.kem)
    node.start()
    forget_each_second(service.forget)
    return Service(
        create_public_app(service, node),
        tls=(create_worker_app(service, node), lambda: server_context(node.membership())),
    )


if __name__ == "__main__":
    serve_if_unbound()
    serve(create_service, listen="0.0.0.0:8000", tls_listen="0.0.0.0:8443")
