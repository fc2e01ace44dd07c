"""Command line: `python -m measure COMMAND ...`.

Exit status: 0 success or no difference, 1 a difference was found, 2 an error (`measure.status`).
"""

from __future__ import annotations

import argparse
import os
import sys

from measure.commands import corim, diff, eventlog, explain, image, pcrs, picture, snp, snp_id, tdx
from measure.errors import MeasureError
from measure.output import say, say_traceback
from measure.status import ExitStatus


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; prints errors as one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        status: ExitStatus = options.run(options)
        sys.stdout.flush()
    except MeasureError as error:
        say(str(error))
    except OSError as error:
        # Every file is read and written elsewhere, so this is standard output. What is left in its
        # buffer must not make the interpreter fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            say(f"cannot write the output: {error.strerror}")
    except Exception:
        # A bug. Python would exit with 1, which here says that something differs.
        say_traceback()
    else:
        return status
    return ExitStatus.ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="measure",
        description="Compute what a disk image measures to, without booting it.",
        epilog="exit status: 0 success or no difference, 1 a difference was found, 2 an error",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (image, pcrs, snp, snp_id, tdx, eventlog, explain, diff, corim, picture):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
