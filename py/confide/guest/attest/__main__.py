"""`python -m confide.guest.attest`: the attestation service, on a socket that systemd opened."""

from __future__ import annotations

import sys

from confide.errors import UnavailableError
from confide.guest.attest.hardware import detect_hardware
from confide.guest.attest.local import passed_socket, serve
from confide.guest.attest.service import operations


def main() -> None:
    """Serve until stopped. Exit with a message if no hardware can attest this machine."""
    try:
        attester = detect_hardware()
    except UnavailableError as error:
        sys.exit(str(error))
    with passed_socket() as listener:
        serve(listener, operations(attester))


if __name__ == "__main__":
    main()
