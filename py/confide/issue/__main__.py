"""`python -m confide.issue`: the attestation service, on the socket that systemd opened for it."""

from __future__ import annotations

import sys

from confide.errors import UnavailableError
from confide.issue.local import passed_socket, serve
from confide.issue.platform import detect_hardware
from confide.issue.service import operations


def main() -> None:
    """Serves until stopped, for the hardware that is there; exits with a message if none is."""
    try:
        attester = detect_hardware()
    except UnavailableError as error:
        sys.exit(str(error))
    with passed_socket() as listener:
        serve(listener, operations(attester))


if __name__ == "__main__":
    main()
