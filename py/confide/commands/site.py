"""`confide site`: register the machines of a site."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from confide.commands.options import add_collateral, add_json, make_finder
from confide.commands.output import print_checks, progress
from confide.commands.status import ExitStatus
from confide.encoding.console import print_json, say, show
from confide.encoding.files import replace_file, write_file
from confide.host.inventory import (
    JUDGED_AS,
    Inventory,
    accepting,
    named_machine,
    verify_inventory,
)
from confide.host.manifest_builder import Policy
from confide.host.references import References
from confide.host.site import Machines, Site
from confide.protocol.roles import Role
from confide.verify.parsed import ParsedEvidence


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = "Register the machines that a production manifest accepts."
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "add",
        help="verify a machine, then list it",
        description="Verifies a machine that was launched for no manifest, and then writes its "
        "chip id or platform instance into the site file. If a check fails, the file stays as it "
        "is.",
    )
    command.add_argument(
        "source",
        metavar="URL|FILE",
        help="the address of the machine, or what --save wrote",
    )
    command.add_argument(
        "--references",
        type=Path,
        required=True,
        metavar="FILE",
        help="what the images of a release measure to (release/references.json)",
    )
    command.add_argument(
        "--policy",
        type=Path,
        required=True,
        metavar="FILE",
        help="what is demanded of platforms (release/policy.json)",
    )
    command.add_argument(
        "--site",
        type=Path,
        default=Path("site.json"),
        metavar="FILE",
        help="the site file; made if it is not there (default: %(default)s)",
    )
    command.add_argument(
        "--role",
        type=Role,
        choices=list(Role),
        metavar="ROLE",
        help="list the machine for this role alone (default: for every role without machines of "
        "its own)",
    )
    add_collateral(command)
    command.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="keep nonce and evidence in this file, whatever the verdict",
    )
    add_json(command, "the verdict and the machine")
    command.set_defaults(run=_add)


def _add(options: argparse.Namespace) -> ExitStatus:
    references = References.read(options.references)
    policy = Policy.read(options.policy)
    # Read first, so that a machine is not asked in vain.
    Site.read_or_new(options.site)
    if "://" in options.source:
        progress(f"asking {options.source} for its evidence")
        inventory = Inventory.fetch(options.source)
    else:
        inventory = Inventory.read(Path(options.source))
    if options.save:
        write_file(options.save, inventory.encode())
    evidence = ParsedEvidence(inventory.evidence)
    machine = named_machine(evidence)
    manifest = accepting(machine, references, policy)
    collateral = make_finder(options).find(evidence, manifest.role(JUDGED_AS), manifest)
    now = int(time.time())
    verdict = verify_inventory(inventory, manifest=manifest, collateral=collateral, now=now)
    is_new = verdict.passed and _list(machine, options.site, options.role)
    status = ExitStatus.PASSED if verdict.passed else ExitStatus.FAILED
    if options.json:
        # What was not verified is no name that a script may use.
        named = machine if verdict.passed else Machines()
        print_json(
            {
                **verdict.to_dict(),
                "opt_outs": manifest.opt_outs,
                "time": now,
                "added": is_new,
                "chip_ids": [chip.hex() for chip in named.chip_ids],
                "platform_instances": [i.hex() for i in named.platform_instances],
            }
        )
        return status
    print_checks(verdict, title=options.source, now=now, refusal="not added")
    if verdict.passed:
        done = "is listed now" if is_new else "was listed already, nothing is changed"
        show(f"{options.site}: {_name(machine)} {done}")
    if manifest.opt_outs:
        say(f"not checked, because the policy says so: {', '.join(manifest.opt_outs)}")
    return status


def _list(machine: Machines, path: Path, role: Role | None) -> bool:
    """Write the machine into the site file. False, and nothing is written, if it is there."""
    site = Site.read_or_new(path)
    if site.listed(role).has(machine):
        return False
    replace_file(path, site.with_machines(machine, role).encode())
    return True


def _name(machine: Machines) -> str:
    names = [f"chip {chip.hex()}" for chip in machine.chip_ids]
    names += [f"TDX platform instance {i.hex()}" for i in machine.platform_instances]
    return " and ".join(names)
