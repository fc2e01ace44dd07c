"""What programs print for people, and the only module of this package that may.

Every line is escaped (`measure.printable`), because an error, a verdict or a name may hold the
words of a peer. `tests/unit/test_output.py` looks for other ways to a terminal. Tables go through
`confide.client.screen`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
import traceback
from types import TracebackType

from measure.printable import printable


def say(line: str, *, program: str = "confide", interrupted: bool = False) -> None:
    """Print one line about the work on standard error, behind the program's name.

    If the program was `interrupted`, a terminal has shown ^C, so the line is a new one. A line that
    cannot be written, because its disk is full or its reader has gone, must not stop the work.
    """
    start = "\n" if interrupted else ""
    with contextlib.suppress(OSError):
        print(f"{start}{program}: {printable(line)}", file=sys.stderr, flush=True)


def show(*lines: str) -> None:
    """Print a result: each text is one line on standard output."""
    for line in lines:
        print(printable(line), flush=True)


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print a result for a script on standard output, in ASCII; in one line without `indent`."""
    # JSON leaves DEL as it is.
    print(json.dumps(value, indent=indent).replace("\x7f", "\\u007f"), flush=True)


def say_traceback(error: BaseException) -> None:
    """Print an error that nobody expected, with its traceback, on standard error."""
    for part in traceback.format_exception(error):
        for line in part.splitlines():
            print(printable(line), file=sys.stderr, flush=True)


class EscapedFormatter(logging.Formatter):
    """A log record as one escaped line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return printable(super().format(record))


def escape_the_unexpected() -> None:
    """For a whole program: also errors that nobody handles, and what libraries log, are escaped."""

    def unhandled(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
        say_traceback(error)

    def in_thread(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None:
            say_traceback(arguments.exc_value)

    sys.excepthook = unhandled
    threading.excepthook = in_thread
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(EscapedFormatter())
