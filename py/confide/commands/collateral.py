"""`confide collateral`: fetch vendor collateral, keep it in a file, hand it on."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from confide.client.collateral.finder import make_finder, offline, read_bundle
from confide.client.collateral.freshness import end_of
from confide.client.service import Record, fetch_record, read_api_key, read_proof
from confide.commands.options import (
    add_api_key,
    add_collateral,
    add_json,
    add_manifest,
    read_manifest,
)
from confide.commands.status import ExitStatus
from confide.encoding.console import print_json, say, show
from confide.encoding.files import write_file
from confide.errors import ConfigError, FormatError
from confide.net.coordinator_client import CoordinatorClient
from confide.protocol.collateral import MAX_BUNDLE, Bundle, Item
from confide.protocol.coordinator import Attestation
from confide.protocol.evidence import Evidence
from confide.protocol.manifest import Manifest
from confide.protocol.roles import Role
from confide.verify.collateral import missing_for
from confide.verify.items.dates import newer
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
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = """\
Vendor collateral: certificates, revocation lists, TCB info and reference values. The
vendors sign each item, so it does not matter who carries it."""
    parser.epilog = f"{_EXAMPLES}\n{parser.epilog}"
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "fetch",
        help="fetch everything that some evidence needs",
        description="Looks in the given bundle, then in the cache, then asks the vendors. Without "
        "-o, only the cache keeps what was found.",
    )
    command.add_argument(
        "source", metavar="URL|FILE", help="a gateway or coordinator, a saved proof, or evidence"
    )
    add_manifest(command)
    command.add_argument(
        "--role",
        default=str(Role.COORDINATOR),
        metavar="ROLE",
        help="the role of the machine whose evidence is in the file (default: %(default)s)",
    )
    command.add_argument(
        "--refused",
        action="store_true",
        help="fetch for the machine that the coordinator at URL refused last",
    )
    add_api_key(command)
    add_collateral(command)
    command.add_argument("-o", "--output", type=Path, metavar="FILE", help="write a bundle")
    add_json(command, "what was found and what is missing")
    command.set_defaults(run=_fetch)

    command = commands.add_parser(
        "bundle",
        help="merge several bundles into one",
        description="Keeps the newer one of two items with the same name, as its vendor says. "
        "If that does not decide, the later file counts. Leaves expired items out.",
    )
    command.add_argument("bundles", type=Path, nargs="+", metavar="FILE", help="bundles to merge")
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the bundle to write"
    )
    command.set_defaults(run=_bundle)

    command = commands.add_parser("show", help="show what a bundle holds, and when it expires")
    command.add_argument("bundle", type=Path, metavar="FILE", help="the bundle")
    add_json(command, "the items, with times in Unix seconds,")
    command.set_defaults(run=_show)

    command = commands.add_parser(
        "push",
        help="give a coordinator a bundle",
        description="Adds the bundle to what the coordinator has. It takes items that are newer "
        "than its own, genuine, and of use for its manifest; it refuses others by name. From then "
        "on, it verifies each machine that joins by them, and each machine the coordinator.",
    )
    command.add_argument("bundle", type=Path, metavar="FILE", help="the bundle")
    command.add_argument(
        "--coordinator", required=True, metavar="URL", help="the coordinator's address"
    )
    command.set_defaults(run=_push)


def _fetch(options: argparse.Namespace) -> ExitStatus:
    manifest_bytes = read_manifest(options.manifest)
    manifest = Manifest.parse(manifest_bytes)
    if options.refused:
        refused = CoordinatorClient(options.source).refused()
        role, evidence = manifest.role(refused.role), Evidence.parse(refused.evidence)
        if evidence.gpu_refusal:
            say(f"no collateral helps: the machine refuses its GPUs: {evidence.gpu_refusal}")
    else:
        role, evidence = manifest.role(options.role), _evidence(options, manifest_bytes)
    finder = make_finder(options.collateral, online=not options.offline, report=say, progress=say)
    parsed = ParsedEvidence(evidence)
    bundle = finder.find(parsed, role, manifest)
    missing = missing_for(parsed, role, manifest, bundle)
    if options.output:
        write_file(options.output, bundle.encode())
    if options.json:
        found = sorted(bundle.items)
        print_json({"passed": not missing, "items": found, "missing": sorted(missing)})
    elif bundle.items or missing:
        say(f"{len(bundle.items)} items in {options.output or 'the cache'}")
    else:
        say("this evidence needs no collateral")
    for name in missing:
        say(f"missing: {name}")
    return ExitStatus.FAILED if missing else ExitStatus.PASSED


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


def _bundle(options: argparse.Namespace) -> ExitStatus:
    merged: dict[str, Item] = {}
    for path in options.bundles:
        for name, item in read_bundle(path).items.items():
            merged[name] = newer(name, item, merged.get(name)) or item
    now = int(time.time())
    kept = {}
    for name, item in merged.items():
        fault = _fault(name, item, now)
        if fault:
            say(f"left out: {name} {fault}")
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
    say(f"{len(kept)} items, {len(data)} bytes in {options.output}")
    return ExitStatus.PASSED


def _show(options: argparse.Namespace) -> ExitStatus:
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
        print_json({"items": listed})
    else:
        for name, item in items:
            state = faults[name] or _until(end_of(name, item))
            show(name, f"    {len(item.data)} bytes, fetched {utc(item.fetched)}, {state}")
    return ExitStatus.FAILED if any(faults.values()) else ExitStatus.PASSED


def _push(options: argparse.Namespace) -> ExitStatus:
    reply = CoordinatorClient(options.coordinator).add_collateral(read_bundle(options.bundle))
    kept = f"and has {len(reply.ignored)} others as new or newer"
    say(f"{options.coordinator} took {len(reply.added)} items, {kept}")
    for item in reply.refused:
        say(f"refused: {item.name}: {item.code}: {item.reason}")
    return ExitStatus.FAILED if reply.refused else ExitStatus.PASSED


def _fault(name: str, item: Item, now: int) -> str:
    """Why an item cannot be used; empty if it can."""
    try:
        end = end_of(name, item)
    except FormatError as error:
        return f"cannot be read: {error}"
    return f"expired {utc(end)}" if end is not None and end < now else ""


def _until(end: int | None) -> str:
    return "never expires" if end is None else f"valid until {utc(end)}"
