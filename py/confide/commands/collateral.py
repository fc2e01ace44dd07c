"""`confide collateral`: get what vendors say of hardware, keep it in a file, hand it on."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from confide.client.collateral.finder import (
    add_collateral_options,
    make_finder,
    offline,
    read_bundle,
)
from confide.client.collateral.freshness import end_of
from confide.client.service import Record, fetch_record, read_api_key, read_proof
from confide.commands.cli import FAILED, PASSED, USAGE
from confide.encoding.files import read_file, write_file
from confide.errors import ConfideError, ConfigError, FormatError
from confide.net.coordinator_client import CoordinatorClient
from confide.protocol.collateral import MAX_BUNDLE, Bundle, Item
from confide.protocol.coordinator import Attestation
from confide.protocol.evidence import Evidence
from confide.protocol.manifest import MAX_MANIFEST, Manifest
from confide.verify.collateral import missing_for
from confide.verify.parsed import ParsedEvidence
from confide.verify.x509 import utc

_EXAMPLES = """\
examples:
  confide collateral fetch http://GATEWAY:9000 --manifest manifest.json -o service.collateral
  confide collateral fetch http://COORDINATOR:8000 --refused --manifest manifest.json \\
      -o worker.collateral
  confide collateral bundle -o all.collateral service.collateral worker.collateral
  confide collateral show all.collateral
  confide collateral push --coordinator http://COORDINATOR:8000 all.collateral

Exit status: 0 all is well, 1 something is missing or has ended or a peer failed, 2 usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status that --help explains."""
    options = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except ConfideError as error:
        _say(str(error))
        return USAGE if isinstance(error, ConfigError) else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="confide collateral",
        description="Certificates, revocation lists, TCB info, reference values: signed by vendors "
        "item by item, so that anybody may carry them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "fetch",
        help="get all that verifying some evidence takes",
        description="Finds what the evidence needs: in the bundle given, in the cache, from the "
        "vendors. Without -o the cache has it then.",
    )
    command.add_argument(
        "source", metavar="URL|FILE", help="a gateway or coordinator, a saved proof, or evidence"
    )
    command.add_argument("--manifest", type=Path, required=True, metavar="FILE")
    command.add_argument(
        "--role",
        default="coordinator",
        metavar="ROLE",
        help="what the evidence in a file is of (default: %(default)s)",
    )
    command.add_argument(
        "--refused",
        action="store_true",
        help="for the machine that the coordinator at URL refused last",
    )
    command.add_argument("--api-key-file", type=Path, metavar="FILE", help="for the gateway")
    add_collateral_options(command)
    command.add_argument("-o", "--output", type=Path, metavar="FILE")
    command.set_defaults(run=_fetch)

    command = commands.add_parser(
        "bundle",
        help="make one bundle of several",
        description="Of two items with one name the later is kept. What has ended is left out.",
    )
    command.add_argument("bundles", type=Path, nargs="+", metavar="FILE")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    command.set_defaults(run=_bundle)

    command = commands.add_parser("show", help="say what a bundle holds, and until when")
    command.add_argument("bundle", type=Path, metavar="FILE")
    command.add_argument("--json", action="store_true", help="as JSON, times in unix seconds")
    command.set_defaults(run=_show)

    command = commands.add_parser(
        "push",
        help="give a coordinator a bundle to judge by",
        description="Replaces all that the coordinator had; it judges whoever joins by the items "
        "in here from then on.",
    )
    command.add_argument("bundle", type=Path, metavar="FILE")
    command.add_argument("--coordinator", required=True, metavar="URL")
    command.set_defaults(run=_push)
    return parser


def _fetch(options: argparse.Namespace) -> int:
    manifest_bytes = read_file(options.manifest, "manifest", MAX_MANIFEST)
    manifest = Manifest.parse(manifest_bytes)
    if options.refused:
        refused = CoordinatorClient(options.source).refused()
        role, evidence = manifest.role(refused.role), Evidence.parse(refused.evidence)
        if evidence.gpu_refusal:
            _say(f"no collateral helps: the machine refuses its GPUs: {evidence.gpu_refusal}")
    else:
        role, evidence = manifest.role(options.role), _evidence(options, manifest_bytes)
    finder = make_finder(options.collateral, online=not options.offline, report=_say, progress=_say)
    parsed = ParsedEvidence(evidence)
    bundle = finder.find(parsed, role, manifest)
    missing = missing_for(parsed, role, manifest, bundle)
    if options.output:
        write_file(options.output, bundle.encode())
    where = options.output or "the cache"
    _say(
        f"{len(bundle.items)} items in {where}" if bundle.items or missing else "nothing is needed"
    )
    for name in missing:
        _say(f"missing: {name}")
    return FAILED if missing else PASSED


def _evidence(options: argparse.Namespace, manifest: bytes) -> Evidence:
    if "://" in options.source:
        api_key = read_api_key(options.api_key_file)
        proof: Record | Evidence = fetch_record(
            options.source, manifest, offline(), api_key=api_key
        )
    else:
        proof = read_proof(Path(options.source))
    if isinstance(proof, Evidence):
        return proof
    return Evidence.parse(Attestation.parse(proof.attestation).evidence)


def _bundle(options: argparse.Namespace) -> int:
    merged = Bundle()
    for path in options.bundles:
        merged = merged.merged(read_bundle(path))
    now = int(time.time())
    kept = {}
    for name, item in merged.items.items():
        fault = _fault(name, item, now)
        if fault:
            _say(f"left out: {name} {fault}")
        else:
            kept[name] = item
    data = Bundle(kept).encode()
    if len(data) > MAX_BUNDLE:
        raise ConfigError(
            "too-large",
            "the bundle is too large",
            expected=f"at most {MAX_BUNDLE} bytes",
            seen=f"{len(data)} bytes",
            next="make one bundle per service",
        )
    write_file(options.output, data)
    _say(f"{len(kept)} items, {len(data)} bytes in {options.output}")
    return PASSED


def _show(options: argparse.Namespace) -> int:
    bundle, now = read_bundle(options.bundle), int(time.time())
    items = bundle.items.items()
    faults = {name: _fault(name, item, now) for name, item in items}
    if options.json:
        listed = [
            {
                "name": name,
                "size": len(item.data),
                "fetched": item.fetched,
                "ends": None if faults[name] else end_of(name, item),
                "fault": faults[name],
            }
            for name, item in items
        ]
        print(json.dumps({"items": listed}, indent=2))
    else:
        for name, item in items:
            print(f"{name}\n    {len(item.data)} bytes, fetched {utc(item.fetched)}, "
                  f"{faults[name] or _until(end_of(name, item))}")  # fmt: skip
    return FAILED if any(faults.values()) else PASSED


def _push(options: argparse.Namespace) -> int:
    bundle = read_bundle(options.bundle)
    CoordinatorClient(options.coordinator).set_collateral(bundle)
    _say(f"{options.coordinator} judges by these {len(bundle.items)} items now")
    return PASSED


def _fault(name: str, item: Item, now: int) -> str:
    """Why an item is of no use, empty if it is."""
    try:
        end = end_of(name, item)
    except FormatError as error:
        return f"cannot be read: {error}"
    return f"ended {utc(end)}" if end is not None and end < now else ""


def _until(end: int | None) -> str:
    return "does not end" if end is None else f"good until {utc(end)}"


def _say(line: str) -> None:
    print(f"confide collateral: {line}", file=sys.stderr)
