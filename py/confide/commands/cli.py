"""The `confide` command.

Nothing is decided here: this module reads arguments, calls, and prints. What a service must prove
is in verify/, what a manifest may say in formats/manifest.py.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from confide.errors import ConfideError, ConfigError

if TYPE_CHECKING:
    from confide.client.collateral.finder import Finder
    from confide.protocol.evidence import Evidence
    from confide.verify.verdict import Check, Verdict

PASSED, FAILED, USAGE = 0, 1, 2

_PROGRAMS = {
    "run": ("confide.commands.run", "boot an image on this computer"),
    "gateway": (
        "confide.host.gateway.__main__",
        "one address for a whole service, trusted with nothing",
    ),
    "proxy": (
        "confide.client.proxy.__main__",
        "OpenAI's API on this computer, verified and sealed",
    ),
    "collateral": (
        "confide.commands.collateral",
        "what vendors say of hardware: fetch, keep, show",
    ),
    "corim": ("confide.commands.corim", "sign reference values, verify who signed them"),
    "model": ("confide.commands.model", "make model disks, and verify them"),
    "demo": (
        "confide.commands.demo",
        "boot the whole service here, ask one question, show the checks",
    ),
}
"""Commands with their own options: name -> (module with `main(argv) -> exit status`, help)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 if all is well, 1 if a check or a peer failed, 2 for usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in _PROGRAMS:
        # Before argparse, so that each program's own --help and options stay its own.
        module = importlib.import_module(_PROGRAMS[arguments[0]][0])
        return int(module.main(arguments[1:]))
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except ConfideError as error:
        if getattr(options, "json", False):
            print(json.dumps({"passed": False, "error": error.to_dict()}, indent=2))
        else:
            print(f"confide: {error}", file=sys.stderr)
        return USAGE if isinstance(error, ConfigError) else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="confide",
        description="Private AI inference in measured virtual machines.",
        epilog="Exit status: 0 all is well, 1 a check failed or a peer is missing, 2 usage.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (_, text) in _PROGRAMS.items():
        # Listed for --help only; main() hands these over before they get here.
        commands.add_parser(name, help=text, add_help=False)

    command = commands.add_parser(
        "verify",
        help="check that a service is what a manifest says",
        description="Asks a service for its proof (or reads a saved one) and checks all of it. A "
        "saved proof is judged by the collateral in it, and nobody is asked for anything.",
    )
    command.add_argument(
        "service",
        metavar="URL|FILE",
        help="a gateway or coordinator; a file made by --save; or the evidence of one machine",
    )
    _manifest_option(command)
    command.add_argument("--api-key-file", type=Path, metavar="FILE", help="for the gateway")
    _add_collateral_options(command)
    command.add_argument("--save", type=Path, metavar="FILE", help="keep the proof")
    command.add_argument(
        "--at",
        type=int,
        metavar="UNIX",
        help="judge as of this time (default: now; for a saved proof, when it was made by its own "
        "word; for evidence, by the collateral in --collateral alone)",
    )
    command.add_argument("--json", action="store_true", help="the verdict as JSON")
    evidence = command.add_argument_group("for the evidence of one machine")
    evidence.add_argument("--role", metavar="ROLE", help="what the machine says it is")
    evidence.add_argument(
        "--report-data", type=bytes.fromhex, metavar="HEX", help="the 64 bytes that it must bind"
    )
    command.set_defaults(run=_verify)

    command = commands.add_parser(
        "set",
        help="give a new coordinator its manifest",
        description="Verifies the coordinator by the manifest, sets it, and verifies again. It is "
        "set once: a coordinator never takes a second one.",
    )
    _manifest_option(command)
    command.add_argument("--coordinator", required=True, metavar="URL")
    _add_collateral_options(command)
    command.add_argument("--json", action="store_true", help="the verdict as JSON")
    command.set_defaults(run=_set)

    _manifest_commands(commands.add_parser("manifest", help="build, show and check manifests"))
    return parser


def _manifest_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("build", help="make one from measurements and models")
    command.add_argument(
        "--measurements",
        type=Path,
        metavar="DIR",
        nargs="+",
        action="extend",
        required=True,
        help="folder of an image, or its measurements.json",
    )
    command.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        nargs="+",
        action="extend",
        default=[],
        help="model.json, or the folder that has it",
    )
    command.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="what a production manifest demands of platforms and GPUs (default: a development "
        "manifest)",
    )
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    command.set_defaults(run=_build)

    command = commands.add_parser("show", help="say what one accepts")
    command.add_argument("manifest", type=Path, metavar="FILE")
    command.set_defaults(run=_show)

    command = commands.add_parser("check", help="check one against the format, or another one")
    command.add_argument("manifest", type=Path, metavar="FILE")
    command.add_argument(
        "--against", type=Path, metavar="FILE", help="must be these bytes; says what differs if not"
    )
    command.set_defaults(run=_check)


def _add_collateral_options(command: argparse.ArgumentParser) -> None:
    from confide.client.collateral.finder import add_collateral_options

    add_collateral_options(command)


def _manifest_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--manifest", type=Path, required=True, metavar="FILE", help="what is trusted"
    )


def _verify(options: argparse.Namespace) -> int:
    from confide.client.collateral.finder import read_bundle
    from confide.client.service import Record, fetch_record, read_api_key, read_proof, verify_record
    from confide.encoding.files import write_file
    from confide.protocol.collateral import Bundle
    from confide.protocol.evidence import Evidence
    from confide.verify.verdict import Verdict

    manifest = _read_manifest(options.manifest)
    live = "://" in options.service
    if live:
        api_key = read_api_key(options.api_key_file)
        proof: Record | Evidence = fetch_record(
            options.service, manifest, _finder(options), api_key=api_key
        )
    else:
        proof = read_proof(Path(options.service))
    if isinstance(proof, Evidence):
        return _verify_evidence(proof, manifest, options)
    if options.role is not None or options.report_data is not None:
        raise ConfigError(
            "not-evidence",
            "--role and --report-data are for the evidence of one machine",
            seen="a saved proof, which says both itself" if not live else "a service's address",
        )
    if options.collateral and not live:
        # What the proof came with goes first: it is of the same time.
        more = read_bundle(options.collateral).items
        proof = replace(proof, collateral=Bundle({**more, **proof.collateral.items}))
    if options.save:
        write_file(options.save, proof.encode())
    now = int(time.time()) if live else proof.time
    now = now if options.at is None else options.at
    verdict = verify_record(proof, manifest, now=now)
    if not live and options.at is None:
        verdict += Verdict((_own_time(now),))
    return _report(verdict, manifest, options, what=options.service, now=now)


def _own_time(now: int) -> Check:
    """Who hands over a proof picks the time that it states: what had ended since counts again."""
    from confide.verify.verdict import Check
    from confide.verify.x509 import utc

    stated = f"{utc(now)}, by the proof's own word"
    return Check("time", "when the proof was made", stated, True, "the proof; --at UNIX to choose")


def _verify_evidence(evidence: Evidence, manifest_bytes: bytes, options: argparse.Namespace) -> int:
    from confide.client.collateral.finder import read_bundle
    from confide.protocol.binding import REPORT_DATA_SIZE
    from confide.protocol.collateral import Bundle
    from confide.protocol.manifest import Manifest
    from confide.verify.evidence import verify_evidence
    from confide.verify.parsed import ParsedEvidence

    if options.role is None or len(options.report_data or b"") != REPORT_DATA_SIZE:
        raise ConfigError(
            "incomplete-options",
            "the file is the evidence of one machine, which does not say what it is for",
            expected=f"--role ROLE and --report-data HEX, {REPORT_DATA_SIZE} bytes",
        )
    manifest = Manifest.parse(manifest_bytes)
    parsed = ParsedEvidence(evidence)
    if options.at is None:
        now = int(time.time())
        collateral = _finder(options).find(parsed, manifest.role(options.role), manifest)
    else:
        # Cache and vendors only know what is so today.
        now = options.at
        collateral = read_bundle(options.collateral) if options.collateral else Bundle()
    verdict = verify_evidence(
        parsed,
        report_data=options.report_data,
        manifest=manifest,
        role=options.role,
        collateral=collateral,
        now=now,
    )
    return _report(verdict, manifest_bytes, options, what=options.service, now=now)


def _set(options: argparse.Namespace) -> int:
    from confide.client.service import set_manifest

    manifest = _read_manifest(options.manifest)
    verdict = set_manifest(options.coordinator, manifest, _finder(options))
    return _report(verdict, manifest, options, what=options.coordinator, now=int(time.time()))


def _finder(options: argparse.Namespace) -> Finder:
    from confide.client.collateral.finder import make_finder

    def report(line: str) -> None:
        print(f"confide: {line}", file=sys.stderr)

    return make_finder(options.collateral, online=not options.offline, report=report)


def _build(options: argparse.Namespace) -> int:
    from confide.encoding.files import write_file
    from confide.host.manifest_builder import Policy, build_manifest, development_policy

    policy = Policy.read(options.policy) if options.policy else development_policy()
    write_file(options.output, build_manifest(options.measurements, options.model, policy))
    return PASSED


def _show(options: argparse.Namespace) -> int:
    from confide.protocol.manifest import Manifest

    manifest = Manifest.parse(_read_manifest(options.manifest))
    print(f"SHA-256  {manifest.sha256.hex()}")
    print(f"mode     {manifest.mode}{_warning(manifest.mode)}")
    for role in manifest.roles:
        for vtpm in role.vtpm:
            print(f"role     {role.name}, vTPM, shape {vtpm.shape}")
            for pcr, value in sorted(vtpm.pcrs.items()):
                print(f"           PCR {pcr:2} {value.hex()}")
        for snp in role.snp:
            print(f"role     {role.name}, SEV-SNP, shape {snp.shape}")
            print(f"           launch digest {snp.launch_digest.hex()}")
        for tdx in role.tdx:
            print(f"role     {role.name}, TDX, shape {tdx.shape}")
            for name, value in tdx.registers.items():
                print(f"           {name} {value.hex()}")
        if role.gpus is not None:
            count = f"{role.gpus.minimum_count} to {role.gpus.maximum_count}"
            print(f"role     {role.name} has {count} GPUs: {', '.join(role.gpus.architectures)}")
    for model in manifest.models:
        print(f"model    {model.name} ({', '.join(model.tasks)}) on {', '.join(model.roles)}")
        print(f"           root hash {model.root_hash.hex()}, hash tree at {model.hash_offset}")
    return PASSED


def _check(options: argparse.Namespace) -> int:
    from confide.host.manifest_builder import differences
    from confide.protocol.manifest import Manifest

    data = _read_manifest(options.manifest)
    manifest = Manifest.parse(data)
    if options.against is None:
        print(f"{options.manifest}: a {manifest.mode} manifest, SHA-256 {manifest.sha256.hex()}")
        return PASSED
    other = _read_manifest(options.against)
    Manifest.parse(other)
    if data == other:
        print(f"{options.manifest} is the same as {options.against}")
        return PASSED
    print(f"{options.manifest} differs from {options.against}:")
    for line in differences(json.loads(other), json.loads(data)):
        print(f"  {line}")
    return FAILED


def _report(
    verdict: Verdict, manifest: bytes, options: argparse.Namespace, *, what: str, now: int
) -> int:
    from confide.protocol.manifest import Manifest

    mode = Manifest.parse(manifest).mode
    if options.json:
        print(json.dumps({**verdict.to_dict(), "mode": mode, "time": now}, indent=2))
        return PASSED if verdict.passed else FAILED
    from rich.console import Console

    from confide.client.verdict_table import verdict_table

    console = Console()
    console.print(verdict_table(verdict, title=what))
    if verdict.passed:
        when = datetime.fromtimestamp(now, UTC)
        console.print(f"[green]verified[/green] as of {when:%Y-%m-%d %H:%M:%S} UTC{_warning(mode)}")
        return PASSED
    failed = ", ".join(check.name for check in verdict.checks if not check.passed)
    console.print(f"[bold red]NOT verified[/bold red]: do not trust this service ({failed})")
    return FAILED


def _warning(mode: str) -> str:
    return " (development: protects nothing against its host)" if mode == "development" else ""


def _read_manifest(path: Path) -> bytes:
    from confide.encoding.files import read_file
    from confide.protocol.manifest import MAX_MANIFEST

    return read_file(path, "manifest", MAX_MANIFEST)


if __name__ == "__main__":
    sys.exit(main())
