"""`confide set`: give a new coordinator its manifest."""

from __future__ import annotations

import argparse
import time

from confide.client.service import set_manifest
from confide.commands.options import (
    add_collateral,
    add_json,
    add_manifest,
    make_finder,
    read_manifest,
)
from confide.commands.output import print_verdict, progress
from confide.commands.status import ExitStatus


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = """\
Verifies the coordinator by the manifest, gives it the manifest, and verifies it again.
A coordinator takes a manifest once; it never takes a second one."""
    add_manifest(parser)
    parser.add_argument(
        "--coordinator", required=True, metavar="URL", help="the coordinator's address"
    )
    add_collateral(parser)
    add_json(parser, "the verdict")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> ExitStatus:
    manifest = read_manifest(options.manifest)
    progress(f"verifying {options.coordinator}")
    verdict = set_manifest(options.coordinator, manifest, make_finder(options))
    return print_verdict(
        verdict,
        manifest,
        title=options.coordinator,
        now=int(time.time()),
        as_json=options.json,
    )
