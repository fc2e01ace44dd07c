"""`confide manifest`: build, show and check manifests."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from confide.commands.options import add_json, read_manifest
from confide.commands.output import print_json, warning
from confide.commands.status import ExitStatus
from confide.encoding.files import write_file
from confide.host.manifest_builder import Policy, build_manifest, development_policy, differences
from confide.protocol.manifest import Manifest


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = "Build, show and check manifests: the files that say what to trust."
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "build",
        help="build one from measurements and models",
        description="Builds a manifest from measured images and packed models. The same inputs "
        "give the same bytes.",
    )
    command.add_argument(
        "--measurements",
        type=Path,
        metavar="DIR",
        nargs="+",
        action="extend",
        required=True,
        help="the folder of an image, or its measurements.json",
    )
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
        "-o", "--output", type=Path, required=True, metavar="FILE", help="where to write it"
    )
    add_json(command, "the manifest's SHA-256 and mode")
    command.set_defaults(run=_build)

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


def _build(options: argparse.Namespace) -> ExitStatus:
    policy = Policy.read(options.policy) if options.policy else development_policy()
    data = build_manifest(options.measurements, options.model, policy)
    write_file(options.output, data)
    manifest = Manifest.parse(data)
    if options.json:
        print_json({"passed": True, **_identity(manifest), "output": str(options.output)})
    else:
        print(_sentence(options.output, manifest))
    return ExitStatus.PASSED


def _show(options: argparse.Namespace) -> ExitStatus:
    data = read_manifest(options.manifest)
    manifest = Manifest.parse(data)
    if options.json:
        print_json({**_identity(manifest), "manifest": json.loads(data)})
        return ExitStatus.PASSED
    print(f"SHA-256  {manifest.sha256.hex()}")
    print(f"mode     {manifest.mode}{warning(manifest.mode)}")
    for role, entry in manifest.roles.items():
        for vtpm in entry.vtpm:
            print(f"role     {role}, vTPM, shape {vtpm.shape}")
            for pcr, value in sorted(vtpm.pcrs.items()):
                print(f"           PCR {pcr:2} {value.hex()}")
        for snp in entry.snp:
            print(f"role     {role}, SEV-SNP, shape {snp.shape}")
            print(f"           launch digest {snp.launch_digest.hex()}")
        for tdx in entry.tdx:
            print(f"role     {role}, TDX, shape {tdx.shape}")
            for name, value in tdx.registers.items():
                print(f"           {name} {value.hex()}")
        if entry.gpus is not None:
            count = f"{entry.gpus.minimum_count} to {entry.gpus.maximum_count}"
            print(f"role     {role} has {count} GPUs: {', '.join(entry.gpus.architectures)}")
    for model in manifest.models:
        print(f"model    {model.name} ({', '.join(model.tasks)}) on {', '.join(model.roles)}")
        print(f"           root hash {model.root_hash.hex()}, hash tree at {model.hash_offset}")
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
        print_json({"passed": passed, **_identity(manifest), "differences": lines})
    elif options.against is None:
        print(_sentence(options.manifest, manifest))
    elif passed:
        print(f"{options.manifest} is the same as {options.against}")
    else:
        print(f"{options.manifest} differs from {options.against}:")
        print("\n".join(f"  {line}" for line in lines))
    return ExitStatus.PASSED if passed else ExitStatus.FAILED


def _identity(manifest: Manifest) -> dict[str, str]:
    return {"sha256": manifest.sha256.hex(), "mode": manifest.mode}


def _sentence(path: Path, manifest: Manifest) -> str:
    return f"{path}: a {manifest.mode} manifest, SHA-256 {manifest.sha256.hex()}"
