"""`python -m confide.guest.coordinator`: the coordinator's program, in its guest."""

from __future__ import annotations

from confide.guest.attest.hardware import detect_attester
from confide.guest.binding import read_binding
from confide.guest.coordinator.app import create_app
from confide.guest.coordinator.domain import Coordinator
from confide.net.server import Service, serve


def create_service() -> Service:
    """Make the root CA and return the HTTP app."""
    return Service(create_app(Coordinator(detect_attester(), binding=read_binding())))


if __name__ == "__main__":
    serve(create_service, listen="0.0.0.0:8000")
