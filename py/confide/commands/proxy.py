"""`confide proxy`: serve the OpenAI API on this computer, verified and sealed."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from confide.client.proxy.loopback import loopback_address
from confide.client.proxy.program import Settings, run
from confide.client.release import released_manifest
from confide.client.service import read_api_key
from confide.commands.options import (
    add_api_key,
    add_collateral,
    add_opt_outs,
    make_finder,
    read_manifest,
)
from confide.commands.status import ExitStatus
from confide.errors import ConfigError

MANIFEST_VARIABLE = "CONFIDE_MANIFEST"
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
    parser.add_argument(
        "--manifest",
        default=os.environ.get(MANIFEST_VARIABLE) or released_manifest(),
        metavar="FILE",
        help="the manifest, which says what to trust (default: $CONFIDE_MANIFEST, or else the "
        "manifest of the release that this client came with)",
    )
    add_api_key(parser)
    parser.add_argument(
        "--receipts",
        type=Path,
        metavar="DIR",
        help="keep every receipt in this folder, beside the attestation that it stands on",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show every check, not one line for each party"
    )
    add_collateral(parser)
    add_opt_outs(parser)
    parser.set_defaults(run=_run)


def settings(options: argparse.Namespace) -> Settings:
    """The options, checked. Raises ConfigError."""
    if not options.manifest:
        raise ConfigError(
            "no-manifest",
            "there is no manifest to compare the service with",
            next="give --manifest FILE, or use the proxy that the flake builds",
        )
    return Settings(
        gateway=options.gateway,
        listen=loopback_address(options.listen),
        manifest=read_manifest(Path(options.manifest)),
        opt_outs=tuple(options.opt_outs),
        api_key=read_api_key(options.api_key_file),
        receipts=options.receipts,
        verbose=options.verbose,
    )


def _run(options: argparse.Namespace) -> ExitStatus:
    # A terminal has its own width, and `confide demo` passes on that of its own.
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    console = Console(width=None if known else FILE_COLUMNS)
    run(settings(options), make_finder(options), console)
    return ExitStatus.PASSED
