"""What every role's program does first: it asks whether its machine has a manifest at all."""

from __future__ import annotations

import sys

from confide.encoding.console import say
from confide.errors import ConfigError
from confide.guest.attest.hardware import detect_attester
from confide.guest.binding import read_binding
from confide.guest.inventory.app import create_app
from confide.net.server import Service, serve
from confide.protocol.launch import UNBOUND

LISTEN = "0.0.0.0:8000"


def serve_if_unbound() -> None:
    """Serve an inventory until stopped, and exit, if this machine was launched for no manifest.

    Returns at once if it was launched for one. Nothing of a role exists before that: no key, no
    certificate authority, no connection.

    Raises:
        SystemExit: when the inventory has ended; with status 1, after a message, if the machine
            does not know its binding.
    """
    try:
        binding = read_binding()
    except ConfigError as error:
        say(str(error))
        sys.exit(1)
    if binding == UNBOUND:
        serve(_create_service, listen=LISTEN)
        sys.exit()


def _create_service() -> Service:
    app = create_app(detect_attester())
    say("inventory: launched for no manifest, attests only")
    return Service(app)
