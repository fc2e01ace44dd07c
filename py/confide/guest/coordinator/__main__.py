"""`python -m confide.guest.coordinator`: the coordinator's program, in its guest."""

from __future__ import annotations

from confide.guest.attest.hardware import detect_attester
from confide.guest.binding import read_binding
from confide.guest.clock import watched_clock
from confide.guest.coordinator.app import create_app
from confide.guest.coordinator.domain import Coordinator
from confide.guest.coordinator.quotes import MAX_WAITING
from confide.guest.inventory.program import serve_if_unbound
from confide.net.server import THREADS, Capacity, Service, serve

CAPACITY = Capacity(2 * MAX_WAITING + THREADS, apart=("POST /v1/challenge",))
"""All that may wait for a quote have a thread, beside those for everything else."""


def create_service() -> Service:
    """Make the root CA and return the HTTP app."""
    coordinator = Coordinator(detect_attester(), binding=read_binding(), now=watched_clock())
    return Service(create_app(coordinator))


if __name__ == "__main__":
    serve_if_unbound()
    serve(create_service, listen="0.0.0.0:8000", capacity=CAPACITY)
