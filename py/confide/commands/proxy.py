"""`confide proxy`: serve the OpenAI API on this computer, verified and sealed."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from confide.client.proxy.local_key import read_local_key
from confide.client.proxy.loopback import loopback_address
from confide.client.proxy.program import Settings, run
from confide.client.screen import Screen
from confide.client.service import read_api_key
from confide.commands.options import (
    add_api_key,
    add_collateral,
    add_opt_outs,
    make_finder,
)
from confide.commands.pinned import add_pinned, read_pinned
from confide.commands.status import ExitStatus

FILE_COLUMNS = 160
"""Width of tables in a file or a pipe."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = """\
Verifies the service behind a gateway, then serves the OpenAI API on this computer.
Every request is encrypted for the verified service."""
    parser.add_argument("--gateway", required=True, metavar="URL", help="the service's address")
    parser.add_argument(
        "--listen",
        default="127.0.0.1:8080",
        metavar="HOST:PORT",
        help="a loopback address (default: %(default)s)",
    )
    add_pinned(parser)
    add_api_key(parser)
    parser.add_argument(
        "--local-key-file",
        type=Path,
        metavar="FILE",
        help="file with a key that every app has to send, as `Authorization: Bearer KEY` or "
        "`x-api-key: KEY` (default: every program on this computer is answered)",
    )
    parser.add_argument(
        "--receipts",
        type=Path,
        metavar="DIR",
        help="keep every receipt in this folder, beside the attestation that it stands on",
    )
    parser.add_argument(
        "--min-workers",
        type=int,
        default=0,
        metavar="N",
        help="trust the service, and use a model, only if the gateway shows N workers that pass "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show every check, not one line for each party"
    )
    add_collateral(parser)
    add_opt_outs(parser)
    parser.set_defaults(run=_run)


def settings(options: argparse.Namespace) -> Settings:
    """The options, checked. Raises ConfigError, FormatError or PolicyError."""
    pinned = read_pinned(options)
    return Settings(
        gateway=options.gateway,
        listen=loopback_address(options.listen),
        manifest=pinned.data,
        opt_outs=tuple(options.opt_outs),
        foreign=pinned.foreign,
        local_key=read_local_key(options.local_key_file),
        api_key=read_api_key(options.api_key_file),
        receipts=options.receipts,
        verbose=options.verbose,
        min_workers=options.min_workers,
    )


def _run(options: argparse.Namespace) -> ExitStatus:
    # A terminal has its own width, and `confide demo` passes on that of its own.
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Screen(width=None if known else FILE_COLUMNS)
    run(settings(options), make_finder(options), console)
    return ExitStatus.PASSED
