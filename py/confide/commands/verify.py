"""`confide verify`: check that a service is what a manifest says."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from confide.client.collateral.finder import read_bundle
from confide.client.service import Record, fetch_record, read_api_key, read_proof, verify_record
from confide.commands.options import (
    add_api_key,
    add_collateral,
    add_json,
    add_opt_outs,
    make_finder,
)
from confide.commands.output import print_verdict, progress, say_remarks
from confide.commands.pinned import Pinned, add_pinned, read_pinned
from confide.commands.status import ExitStatus
from confide.encoding.files import write_file
from confide.errors import ConfigError
from confide.protocol.binding import REPORT_DATA_SIZE
from confide.protocol.collateral import Bundle
from confide.protocol.evidence import Evidence
from confide.verify.evidence import verify_evidence
from confide.verify.parsed import ParsedEvidence
from confide.verify.service import check_validity
from confide.verify.verdict import Check, Verdict
from confide.verify.x509 import utc


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = """\
Asks a service for its proof, or reads a saved one, and prints every check. A saved
proof is judged by the collateral in it, and no peer or vendor is asked."""
    parser.add_argument(
        "service",
        metavar="URL|FILE",
        help="the address of a gateway or coordinator, a saved proof, or evidence of a machine",
    )
    add_pinned(parser)
    add_api_key(parser)
    add_collateral(parser)
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the proof in this file")
    parser.add_argument(
        "--at",
        type=int,
        metavar="UNIX",
        help="judge as of this time in Unix seconds (default: now, or the time that a saved proof "
        "states); evidence then needs --collateral, because no cache and no vendor is asked",
    )
    add_opt_outs(parser)
    add_json(parser, "the verdict")
    evidence = parser.add_argument_group("for the evidence of one machine")
    evidence.add_argument("--role", metavar="ROLE", help="the role that the machine must have")
    evidence.add_argument(
        "--report-data", type=_hex, metavar="HEX", help="the 64 bytes that it must bind"
    )
    parser.set_defaults(run=_run)


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError("expected hexadecimal digits") from error


def _run(options: argparse.Namespace) -> ExitStatus:
    pinned = read_pinned(options)
    manifest, parsed = pinned.data, pinned.manifest
    live = "://" in options.service
    if live:
        say_remarks(parsed, pinned.foreign)
        parsed.require_current(int(time.time()))
        api_key = read_api_key(options.api_key_file)
        progress(f"asking {options.service} for its proof")
        proof: Record | Evidence = fetch_record(
            options.service, manifest, make_finder(options), api_key=api_key
        )
    else:
        proof = read_proof(Path(options.service))
    if isinstance(proof, Evidence):
        return _verify_evidence(proof, pinned, options)
    if options.role is not None or options.report_data is not None:
        raise ConfigError(
            "not-evidence",
            "--role and --report-data are for the evidence of one machine",
            seen="a service's address" if live else "a saved proof, which states both itself",
        )
    if options.collateral and not live:
        # The proof's own collateral goes first: it is of the same time.
        more = read_bundle(options.collateral).items
        proof = replace(proof, collateral=Bundle({**more, **proof.collateral.items}))
    if options.save:
        write_file(options.save, proof.encode())
    now = int(time.time()) if live else proof.time
    now = now if options.at is None else options.at
    verdict = verify_record(proof, manifest, now=now)
    if not live and options.at is None:
        verdict += Verdict((_stated_time(now),))
    return _print(verdict, pinned, now, options)


def _stated_time(now: int) -> Check:
    """A proof states its own time: at that time, what has expired since was still valid."""
    stated = f"{utc(now)}, as the proof states it"
    return Check("time", "when the proof was made", stated, True, "the proof; --at UNIX to choose")


def _verify_evidence(evidence: Evidence, pinned: Pinned, options: argparse.Namespace) -> ExitStatus:
    manifest = pinned.manifest
    if options.role is None or len(options.report_data or b"") != REPORT_DATA_SIZE:
        raise ConfigError(
            "incomplete-options",
            "the file is the evidence of one machine, and does not say what it is for",
            expected=f"--role ROLE and --report-data HEX ({REPORT_DATA_SIZE} bytes)",
        )
    parsed = ParsedEvidence(evidence)
    if options.at is None:
        now = int(time.time())
        collateral = make_finder(options).find(parsed, manifest.role(options.role), manifest)
    else:
        # The cache and the vendors know today's state only.
        now = options.at
        collateral = read_bundle(options.collateral) if options.collateral else Bundle()
    verdict = Verdict((check_validity(manifest, now),)) + verify_evidence(
        parsed,
        report_data=options.report_data,
        manifest=manifest,
        role=options.role,
        collateral=collateral,
        now=now,
    )
    return _print(verdict, pinned, now, options)


def _print(verdict: Verdict, pinned: Pinned, now: int, options: argparse.Namespace) -> ExitStatus:
    return print_verdict(
        verdict,
        pinned.manifest,
        title=options.service,
        now=now,
        as_json=options.json,
        foreign=pinned.foreign,
    )
