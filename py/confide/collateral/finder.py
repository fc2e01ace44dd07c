"""Finds the collateral that some evidence needs: a bundle first, the cache second, vendors last."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from confide.errors import ConfigError
from confide.formats.collateral import MAX_BUNDLE, Bundle
from confide.formats.manifest import Manifest

FindCollateral = Callable[[bytes, Manifest], Bundle]
"""From a coordinator's encoded evidence, and the manifest it is judged by, to the collateral."""


def add_collateral_options(parser: argparse.ArgumentParser) -> None:
    """--collateral and --offline, as every command that verifies has them."""
    parser.add_argument(
        "--collateral",
        type=Path,
        metavar="FILE",
        help="a bundle of vendors' statements (`confide collateral bundle`), looked at first",
    )
    parser.add_argument(
        "--offline", action="store_true", help="ask no vendor: the bundle and the cache only"
    )


def read_bundle(path: Path) -> Bundle:
    """A bundle from a file. Raises ConfigError if it cannot be read, FormatError if it is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            "unreadable-file", "the collateral cannot be read", seen=f"{path}: {error.strerror}"
        ) from error
    if len(data) > MAX_BUNDLE:
        raise ConfigError("bad-file", "the collateral is too large", expected=f"{MAX_BUNDLE} bytes")
    return Bundle.parse(data)


def offline(bundle: Bundle | None = None) -> FindCollateral:
    """Finds what is in `bundle`, and nothing else."""
    found = bundle or Bundle()
    return lambda _evidence, _manifest: found


def make_finder(
    bundle: Path | None, *, online: bool, report: Callable[[str], None]
) -> FindCollateral:
    """What the options --collateral and --offline ask for; `report` gets one line per problem."""
    return offline(read_bundle(bundle) if bundle else None)
