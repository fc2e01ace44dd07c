"""What commands print: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from confide.commands.status import ExitStatus
from confide.encoding.printable import printable
from confide.errors import ConfideError

if TYPE_CHECKING:
    from confide.protocol.manifest import Manifest
    from confide.verify.verdict import Verdict


def say(line: str) -> None:
    """Print one line for a person on standard error."""
    # It may have words of a peer.
    print(f"confide: {printable(line)}", file=sys.stderr, flush=True)


def progress(line: str) -> None:
    """Tell a person at a terminal what takes time; a script hears nothing."""
    if sys.stderr.isatty():
        say(f"{line} ...")


def print_json(value: object) -> None:
    """Print a result for a script on standard output."""
    print(json.dumps(value, indent=2))


def print_error(error: ConfideError, *, as_json: bool) -> None:
    """Print an error: one line on standard error, or {"passed": false, "error": {...}} as JSON."""
    if as_json:
        print_json({"passed": False, "error": error.to_dict()})
    else:
        say(f"{error.code}: {error}")


def warning(mode: str) -> str:
    """What a person must know about a manifest of this mode, to stand behind its name."""
    return " (protects nothing against its host)" if mode == "development" else ""


def say_remarks(manifest: Manifest) -> None:
    """Tell a person what the manifest leaves unchecked, and that it expires soon."""
    from confide.client.remarks import remarks

    for line in remarks(manifest, now=int(time.time())):
        say(line)


def print_verdict(
    verdict: Verdict, manifest: Manifest, *, title: str, now: int, as_json: bool
) -> ExitStatus:
    """Print every check and the verdict.

    Args:
        verdict: All checks.
        manifest: The manifest that the service was judged by.
        title: What was verified.
        now: The time of the judgement in Unix seconds.
        as_json: Print JSON in place of a table.

    Returns:
        PASSED or FAILED.
    """
    mode, opt_outs = manifest.mode, manifest.opt_outs
    if as_json:
        print_json({**verdict.to_dict(), "mode": mode, "opt_outs": opt_outs, "time": now})
        return _status(verdict)
    print_checks(verdict, title=title, now=now, refusal="do not trust this service")
    if verdict.passed:
        print(f"manifest: {mode}{warning(mode)}")
    if opt_outs:
        print(f"not checked, because the manifest says so: {', '.join(opt_outs)}")
    return _status(verdict)


def print_checks(verdict: Verdict, *, title: str, now: int, refusal: str) -> None:
    """Print every check, and whether all passed, for a person.

    Args:
        verdict: All checks.
        title: What was verified.
        now: The time of the judgement in Unix seconds.
        refusal: What follows from a check that failed; the names of these stand behind it.
    """
    # Imported here, so that `confide --help` needs none of it.
    from rich.console import Console
    from rich.markup import escape

    from confide.client.verdict_table import verdict_table

    console = Console()
    console.print(verdict_table(verdict, title=title))
    if verdict.passed:
        when = datetime.fromtimestamp(now, UTC)
        console.print(f"[green]verified[/green] as of {when:%Y-%m-%d %H:%M:%S} UTC")
    else:
        failed = ", ".join(check.name for check in verdict.checks if not check.passed)
        console.print(f"[bold red]NOT verified[/bold red]: {escape(f'{refusal} ({failed})')}")


def _status(verdict: Verdict) -> ExitStatus:
    return ExitStatus.PASSED if verdict.passed else ExitStatus.FAILED
