"""Command line: `python -m measure COMMAND ...`.

Exit status: 0 success or no difference, 1 a difference was found, 2 an error.
"""

from __future__ import annotations

import argparse
import os
import sys

from measure.commands import corim, diff, eventlog, explain, image, pcrs, picture, snp, snp_id, tdx
from measure.errors import MeasureError


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; prints errors as one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except MeasureError as error:
        print(f"measure: {error}", file=sys.stderr)
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter must not fail on it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="measure", description="Expected measurements of a disk image, without booting it."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (image, pcrs, snp, snp_id, tdx, eventlog, explain, diff, corim, picture):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
