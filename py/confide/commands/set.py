"""`confide set`: give a new coordinator its manifest."""

from __future__ import annotations

import argparse
import time

from confide.client.service import set_manifest
from confide.commands.options import (
    add_collateral,
    add_json,
    add_manifest,
    add_opt_outs,
    make_finder,
    read_manifest,
)
from confide.commands.output import print_verdict, progress, say_remarks
from confide.commands.status import ExitStatus
from confide.protocol.manifest import Manifest


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = """\
Verifies the coordinator by the manifest, gives it the manifest, and verifies it again.
A coordinator takes the manifest that it was launched for, and no other. It also gets the
vendor collateral that it was verified with, because its nodes verify it. Run the command
again before that collateral expires."""
    add_manifest(parser)
    parser.add_argument(
        "--coordinator", required=True, metavar="URL", help="the coordinator's address"
    )
    add_collateral(parser)
    add_opt_outs(parser)
    add_json(parser, "the verdict")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> ExitStatus:
    manifest = read_manifest(options.manifest)
    parsed = Manifest.parse(manifest)
    say_remarks(parsed)
    progress(f"verifying {options.coordinator}")
    verdict = set_manifest(
        options.coordinator, manifest, make_finder(options), opt_outs=options.opt_outs
    )
    return print_verdict(
        verdict,
        parsed,
        title=options.coordinator,
        now=int(time.time()),
        as_json=options.json,
    )
