"""The `confide` command: it finds a command's module, runs it, and reports its errors.

Only the module of the given command is imported, so `confide --help` is fast and each command needs
only what it uses.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence

from confide.commands.output import print_error
from confide.commands.status import EXPLANATION, ExitStatus
from confide.encoding.console import escape_the_unexpected, say
from confide.errors import ConfideError, ConfigError

COMMANDS = {
    "verify": "check that a service is what a manifest says",
    "proxy": "serve the OpenAI API on this computer, verified and sealed",
    "trust": "keep the manifest of a service, for every client of this user",
    "receipt": "verify receipts that the proxy has kept",
    "manifest": "build, show and check manifests",
    "site": "register the machines of a site",
    "collateral": "fetch, keep and show vendor collateral",
    "set": "give a new coordinator its manifest",
    "model": "make and verify model disks",
    "corim": "sign reference values, and verify their signature",
    "gateway": "serve one address for a whole service",
    "run": "boot an image on this computer",
    "demo": "boot the whole service here and ask it one question",
}
"""Each command's name, which is also its module's name in this package, and its line of help."""


def program() -> int:
    """`main` as a whole program, in which everything that is printed is escaped."""
    escape_the_unexpected()
    return main()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after `confide`; None takes those of this process.

    Returns:
        An `ExitStatus`.

    Raises:
        SystemExit: For --help (0) and for wrong usage (2).
    """
    words = _parser().parse_args(argv)
    options = command_parser(words.command).parse_args(words.arguments)
    run: Callable[[argparse.Namespace], ExitStatus] = options.run
    try:
        return run(options)
    except ConfideError as error:
        print_error(error, as_json=getattr(options, "json", False))
        return ExitStatus.USAGE if isinstance(error, ConfigError) else ExitStatus.FAILED
    except KeyboardInterrupt:
        say("interrupted", interrupted=True)
        return ExitStatus.INTERRUPTED


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command in `COMMANDS`; imports the command's module."""
    parser = argparse.ArgumentParser(
        prog=f"confide {name}",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    importlib.import_module(f"{__package__}.{name}").configure(parser)
    return parser


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="confide",
        usage="confide COMMAND [OPTION ...]",
        description="Private AI inference in measured virtual machines.",
        epilog=f"commands:\n{listed}\n\n`confide COMMAND --help` explains each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser
