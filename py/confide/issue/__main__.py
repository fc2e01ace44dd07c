"""`python -m confide.issue`: the attestation service, on the socket that systemd opened for it."""

from __future__ import annotations

import socket
import sys

from confide.errors import UnavailableError
from confide.issue.platform import detect_hardware
from confide.issue.service import serve

LISTEN_FD = 3  # the first socket that systemd passes on (sd_listen_fds(3))


def main() -> None:
    """Serves until stopped, for the hardware that is there; exits with a message if none is."""
    try:
        attester = detect_hardware()
    except UnavailableError as error:
        sys.exit(str(error))
    with socket.socket(fileno=LISTEN_FD) as listener:
        serve(listener, attester)


if __name__ == "__main__":
    main()
