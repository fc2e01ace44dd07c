"""What `measure` prints, and its only module that may (`tests/unit/test_output.py`).

Files, logs and evidence are anybody's bytes, and errors quote them. So every line is escaped.
"""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any

from measure.printable import printable

_MAX_RESULT = 16 << 10
"""Most characters of one line of a result: QEMU's command line with an ID block has 6,000."""


def show(*lines: str) -> None:
    """Print a result: each text is one line on standard output."""
    for line in lines:
        print(printable(line, _MAX_RESULT))


def say(line: str) -> None:
    """Print one line about the work on standard error."""
    print(f"measure: {printable(line)}", file=sys.stderr)


def say_traceback() -> None:
    """Print the error that is being handled, which is a bug, on standard error."""
    for line in traceback.format_exc().splitlines():
        print(printable(line), file=sys.stderr)


def print_json(value: Any) -> None:
    """For scripts: sorted keys, two spaces of indentation, ASCII."""
    # JSON leaves DEL as it is.
    print(json.dumps(value, sort_keys=True, indent=2).replace("\x7f", "\\u007f"))
