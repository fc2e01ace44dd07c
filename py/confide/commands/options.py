"""Options that several commands share, and reading what they name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from confide.commands.output import progress
from confide.encoding.console import say
from confide.encoding.files import read_file
from confide.protocol.manifest import MAX_MANIFEST
from confide.protocol.opt_outs import OPT_OUTS, as_option

if TYPE_CHECKING:
    from confide.client.collateral.finder import Finder


def add_manifest(parser: argparse.ArgumentParser) -> None:
    """--manifest."""
    parser.add_argument(
        "--manifest",
        type=Path,
        required=True,
        metavar="FILE",
        help="the manifest, which says what to trust",
    )


def add_opt_outs(parser: argparse.ArgumentParser) -> None:
    """An option for each opt-out that a manifest can name; `options.opt_outs` has those given."""
    group = parser.add_argument_group(
        "opt-outs",
        "A manifest with opt-outs protects less. It is taken only if each one is given here.",
    )
    for opt_out in OPT_OUTS:
        group.add_argument(
            as_option(opt_out),
            dest="opt_outs",
            action="append_const",
            const=opt_out,
            default=[],
            help=f"take a manifest with {opt_out}",
        )


def add_api_key(parser: argparse.ArgumentParser) -> None:
    """--api-key-file; `client.service.read_api_key` reads it."""
    parser.add_argument(
        "--api-key-file", type=Path, metavar="FILE", help="file with the API key for the gateway"
    )


def add_collateral(parser: argparse.ArgumentParser) -> None:
    """--collateral and --offline, as every command that verifies has them."""
    parser.add_argument(
        "--collateral",
        type=Path,
        metavar="FILE",
        help="a bundle of vendor collateral (`confide collateral fetch` makes one), used first",
    )
    parser.add_argument(
        "--offline", action="store_true", help="ask no vendor: use the bundle and the cache only"
    )


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON")


def read_manifest(path: Path) -> bytes:
    """The bytes of a manifest file. Raises ConfigError if it cannot be read."""
    return read_file(path, "manifest", MAX_MANIFEST)


def make_finder(options: argparse.Namespace) -> Finder:
    """What finds collateral as `add_collateral`'s options say. Raises ConfigError, FormatError."""
    from confide.client.collateral import finder

    return finder.make_finder(
        options.collateral, online=not options.offline, report=say, progress=progress
    )
