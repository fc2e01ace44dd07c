"""Says on the console how a program ended with which its machine ends.

`python -m confide.guest.ended NAME` is the ExecStopPost of such a unit. A program that was killed
has said nothing, and the service manager's own words do not reach the console.

Source: systemd.exec(5), SERVICE_RESULT, EXIT_CODE and EXIT_STATUS.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from confide.encoding.console import say


def describe(name: str, environment: Mapping[str, str]) -> str:
    """One line for the console. `environment` is the one that the service manager gives."""
    words = (environment.get(key, "?") for key in ("SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS"))
    result, code, status = words
    return f"the {name} has ended ({result}: {code}, {status}): this machine powers off"


if __name__ == "__main__":
    say(describe(sys.argv[1], os.environ))
