"""`confide manifest`: build, show and check manifests."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from confide.commands.options import add_json, read_manifest
from confide.commands.output import identity, warning
from confide.commands.status import ExitStatus
from confide.encoding.console import print_json, show
from confide.encoding.files import write_file
from confide.errors import ConfigError
from confide.host.manifest_builder import Policy, build_manifest, development_policy, differences
from confide.host.references import References, measured
from confide.host.site import Site
from confide.protocol.manifest import Manifest
from confide.protocol.opt_outs import as_option
from confide.protocol.policy import snp, tdx
from confide.protocol.validity import DEFAULT_DAYS, date


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = "Build, show and check manifests: the files that say what to trust."
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "build",
        help="build one from references and models",
        description="Builds a manifest from what images measure to and from packed models; no "
        "image is needed. The same inputs give the same bytes.",
    )
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--references",
        type=Path,
        metavar="FILE",
        help="what the images of a release measure to (release/references.json)",
    )
    _add_measurements(source, required=False)
    command.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        nargs="+",
        action="extend",
        default=[],
        help="a model.json, or the folder that has it",
    )
    command.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="what a production manifest demands of platforms and GPUs (default: build a "
        "development manifest)",
    )
    command.add_argument(
        "--site",
        type=Path,
        metavar="FILE",
        help="whose machines a production manifest accepts: their chip ids and platform instances",
    )
    command.add_argument(
        as_option(snp.OptOut.ANY_CHIP),
        dest="any_chip",
        action="store_true",
        help="in place of chip ids: accept each SEV-SNP chip in the world",
    )
    command.add_argument(
        as_option(tdx.OptOut.ANY_PLATFORM),
        dest="any_platform",
        action="store_true",
        help="in place of platform instances: accept each TDX machine in the world",
    )
    command.add_argument(
        "--role",
        metavar="ROLE",
        nargs="+",
        action="extend",
        default=[],
        help="only these roles of the references (default: all)",
    )
    _add_released(command, "of --measurements (default: now)")
    command.add_argument(
        "--days",
        type=int,
        default=DEFAULT_DAYS,
        metavar="N",
        help="valid for so many days after the release (default: %(default)s)",
    )
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="where to write it"
    )
    add_json(command, "the manifest's SHA-256 and mode")
    command.set_defaults(run=_build)

    command = commands.add_parser(
        "references",
        help="collect what images measure to",
        description="Collects the measurements of images in one file, from which manifests are "
        "built without the images.",
    )
    _add_measurements(command, required=True)
    _add_released(command, "(default: now)")
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="where to write them"
    )
    command.set_defaults(run=_references)

    command = commands.add_parser(
        "show",
        help="show what one accepts",
        description="Shows which images, platforms and models a manifest accepts.",
    )
    command.add_argument("manifest", type=Path, metavar="FILE", help="the manifest")
    add_json(command, "its SHA-256 and its content")
    command.set_defaults(run=_show)

    command = commands.add_parser(
        "check",
        help="check one, and compare it with another one",
        description="Checks that a manifest is well-formed, and optionally that it has the bytes "
        "of another one.",
    )
    command.add_argument("manifest", type=Path, metavar="FILE", help="the manifest")
    command.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="the manifest must have the bytes of this file; print each difference",
    )
    add_json(command, "the result")
    command.set_defaults(run=_check)


def _add_measurements(parser: argparse._ActionsContainer, *, required: bool) -> None:
    parser.add_argument(
        "--measurements",
        type=Path,
        metavar="DIR",
        nargs="+",
        required=required,
        help="the folder of an image, or its measurements.json",
    )


def _add_released(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--released", type=int, metavar="UNIX", help=f"the time of the release {what}"
    )


def _measured(options: argparse.Namespace) -> References:
    released = int(time.time()) if options.released is None else options.released
    return measured(options.measurements, released=released)


def _references(options: argparse.Namespace) -> ExitStatus:
    references = _measured(options)
    write_file(options.output, references.encode())
    show(f"{options.output}: references of {', '.join(references.roles)}")
    return ExitStatus.PASSED


def _build(options: argparse.Namespace) -> ExitStatus:
    if options.references and options.released is not None:
        raise ConfigError(
            "bad-options",
            "the references say themselves when they were released",
            expected="--released beside --measurements only",
        )
    if options.policy is None and (options.site or options.any_chip or options.any_platform):
        raise ConfigError(
            "bad-options",
            "a development manifest does not say whose machines it accepts",
            expected="--site and opt-outs beside --policy only",
        )
    references = References.read(options.references) if options.references else _measured(options)
    policy = development_policy()
    if options.policy:
        policy = Policy.read(options.policy).of_site(
            Site.read(options.site) if options.site else Site(),
            any_chip=options.any_chip,
            any_platform=options.any_platform,
        )
    chosen = references.only(options.role)
    data = build_manifest(chosen, options.model, policy, days=options.days)
    write_file(options.output, data)
    manifest = Manifest.parse(data)
    if options.json:
        print_json({"passed": True, **identity(manifest), "output": str(options.output)})
    else:
        show(_sentence(options.output, manifest))
    return ExitStatus.PASSED


def _show(options: argparse.Namespace) -> ExitStatus:
    data = read_manifest(options.manifest)
    manifest = Manifest.parse(data)
    if options.json:
        print_json({**identity(manifest), "manifest": json.loads(data)})
        return ExitStatus.PASSED
    show(f"SHA-256  {manifest.sha256.hex()}")
    show(f"mode     {manifest.mode}{warning(manifest.mode)}")
    show(f"valid    {date(manifest.released)} to {date(manifest.expires)}")
    for opt_out in manifest.opt_outs:
        show(f"opt-out  {opt_out}")
    for role, entry in manifest.roles.items():
        platforms = entry.narrow(manifest.platforms)
        for chip in platforms.snp.chip_ids if platforms.snp and entry.snp else ():
            show(f"role     {role}, chip {chip.hex()}")
        for instance in platforms.tdx.platform_instances if platforms.tdx and entry.tdx else ():
            show(f"role     {role}, TDX platform instance {instance.hex()}")
        for of_vtpm in entry.vtpm:
            show(f"role     {role}, vTPM, shape {of_vtpm.shape}")
            for pcr, value in sorted(of_vtpm.pcrs.items()):
                show(f"           PCR {pcr:2} {value.hex()}")
        for of_snp in entry.snp:
            show(f"role     {role}, SEV-SNP, shape {of_snp.shape}")
            show(f"           launch digest {of_snp.launch_digest.hex()}")
        for of_tdx in entry.tdx:
            show(f"role     {role}, TDX, shape {of_tdx.shape}")
            for name, value in of_tdx.registers.items():
                show(f"           {name} {value.hex()}")
        if entry.gpus is not None:
            count = f"{entry.gpus.minimum_count} to {entry.gpus.maximum_count}"
            show(f"role     {role} has {count} GPUs: {', '.join(entry.gpus.architectures)}")
    for model in manifest.models:
        show(f"model    {model.name} ({', '.join(model.tasks)}) on {', '.join(model.roles)}")
        show(f"           root hash {model.root_hash.hex()}, hash tree at {model.hash_offset}")
    return ExitStatus.PASSED


def _check(options: argparse.Namespace) -> ExitStatus:
    data = read_manifest(options.manifest)
    manifest = Manifest.parse(data)
    other = data
    if options.against is not None:
        other = read_manifest(options.against)
        Manifest.parse(other)
    # Two manifests are the same only byte for byte: clients pin the SHA-256.
    passed = data == other
    lines = [] if passed else differences(json.loads(other), json.loads(data))
    if options.json:
        print_json({"passed": passed, **identity(manifest), "differences": lines})
    elif options.against is None:
        show(_sentence(options.manifest, manifest))
    elif passed:
        show(f"{options.manifest} is the same as {options.against}")
    else:
        show(f"{options.manifest} differs from {options.against}:")
        show(*(f"  {line}" for line in lines))
    return ExitStatus.PASSED if passed else ExitStatus.FAILED


def _sentence(path: Path, manifest: Manifest) -> str:
    return f"{path}: a {manifest.mode} manifest, SHA-256 {manifest.sha256.hex()}"
