"""`confide receipt`: check receipts that `confide proxy --receipts` has kept."""

from __future__ import annotations

import argparse
from pathlib import Path

from confide.client.kept_receipt import KeptReceipt, read_kept, verify_kept
from confide.commands.options import add_json, add_opt_outs
from confide.commands.output import print_checks, show_manifest, verdict_facts
from confide.commands.pinned import add_pinned, read_pinned
from confide.commands.status import ExitStatus
from confide.encoding.console import print_json, show
from confide.encoding.files import read_file
from confide.verify.x509 import utc

MAX_ANSWER = 1 << 30
"""Bytes of a file with an answer."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = "Check receipts that `confide proxy --receipts DIR` has kept."
    example = "confide receipt verify DIR/ATTESTATION/RECEIPT.cbor --manifest manifest.json"
    parser.epilog = f"example:\n  {example}\n\n{parser.epilog}"
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "verify",
        help="verify a kept receipt by the attestation that lies beside it",
        description="Verifies a kept receipt as of its own time, by the attestation record in its "
        "folder and the manifest that you give. No peer and no vendor is asked.",
    )
    command.add_argument("receipt", type=Path, metavar="FILE", help="the receipt")
    add_pinned(command)
    command.add_argument(
        "--answer",
        type=Path,
        metavar="FILE",
        help="the body of the answer as the app got it, to compare with the receipt",
    )
    add_opt_outs(command)
    add_json(command, "the verdict and what the receipt says")
    command.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> ExitStatus:
    pinned = read_pinned(options)
    answer = read_file(options.answer, "answer", MAX_ANSWER) if options.answer else None
    kept = read_kept(options.receipt)
    verdict = verify_kept(kept, pinned.data, answer=answer)
    said, now = _said(kept), kept.statement.time
    if options.json:
        facts = verdict_facts(verdict, pinned.manifest, pinned.foreign, now)
        print_json({**facts, "receipt": said})
    else:
        refusal = "do not rely on this receipt"
        print_checks(verdict, title=str(options.receipt), now=now, refusal=refusal)
        show_manifest(verdict, pinned.manifest, pinned.foreign)
        if verdict.passed:
            said["time"] = utc(now)
            show(*(f"{name}: {value}" for name, value in said.items()))
    return ExitStatus.PASSED if verdict.passed else ExitStatus.FAILED


def _said(kept: KeptReceipt) -> dict[str, str | int]:
    """What the worker signed, for people and programs."""
    statement = kept.statement
    return {
        "model": statement.model,
        "model_root_hash": statement.model_root_hash.hex(),
        "time": statement.time,
        "unit": statement.usage.unit,
        "input": statement.usage.input,
        "output": statement.usage.output,
        "request_sha256": statement.request_sha256.hex(),
        "response_sha256": statement.response_sha256.hex(),
    }
