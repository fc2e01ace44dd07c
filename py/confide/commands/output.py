"""What commands print: results on standard output, everything else on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from confide.commands.status import ExitStatus
from confide.encoding.console import print_json, say, show
from confide.errors import ConfideError
from measure.printable import printable

if TYPE_CHECKING:
    from confide.protocol.manifest import Manifest
    from confide.verify.verdict import Verdict


def progress(line: str) -> None:
    """Tell a person at a terminal what takes time; a script hears nothing."""
    if sys.stderr.isatty():
        say(f"{line} ...")


def print_error(error: ConfideError, *, as_json: bool) -> None:
    """Print an error: one line on standard error, or {"passed": false, "error": {...}} as JSON."""
    if as_json:
        print_json({"passed": False, "error": error.to_dict()})
    else:
        say(f"{error.code}: {error}")


def warning(mode: str) -> str:
    """What a person must know about a manifest of this mode, to stand behind its name."""
    return " (protects nothing against its host)" if mode == "development" else ""


def identity(manifest: Manifest) -> dict[str, object]:
    """What names a manifest, and says when and how far it is good, for `--json`."""
    return {
        "sha256": manifest.sha256.hex(),
        "mode": manifest.mode,
        "released": manifest.released,
        "expires": manifest.expires,
        "opt_outs": manifest.opt_outs,
    }


def say_remarks(manifest: Manifest, foreign: Sequence[str] = ()) -> None:
    """Tell a person what is left unchecked under this manifest, and that it expires soon."""
    from confide.client.remarks import remarks

    for line in remarks(manifest, foreign, now=int(time.time())):
        say(line)


def print_verdict(
    verdict: Verdict,
    manifest: Manifest,
    *,
    title: str,
    now: int,
    as_json: bool,
    foreign: Sequence[str] = (),
) -> ExitStatus:
    """Print every check and the verdict.

    Args:
        verdict: All checks.
        manifest: The manifest that the service was judged by.
        title: What was verified.
        now: The time of the judgement in Unix seconds.
        as_json: Print JSON in place of a table.
        foreign: What of the manifest is not of this client's release.

    Returns:
        PASSED or FAILED.
    """
    if as_json:
        print_json(verdict_facts(verdict, manifest, foreign, now))
        return _status(verdict)
    print_checks(verdict, title=title, now=now, refusal="do not trust this service")
    show_manifest(verdict, manifest, foreign)
    return _status(verdict)


def verdict_facts(
    verdict: Verdict, manifest: Manifest, foreign: Sequence[str], now: int
) -> dict[str, object]:
    """A verdict for `--json`, with what was left unchecked."""
    # Imported here, so that `confide --help` needs none of it.
    from confide.protocol.opt_outs import unchecked

    return {
        **verdict.to_dict(),
        "mode": manifest.mode,
        "opt_outs": unchecked(manifest.opt_outs, is_foreign=bool(foreign)),
        "foreign": list(foreign),
        "time": now,
    }


def show_manifest(verdict: Verdict, manifest: Manifest, foreign: Sequence[str]) -> None:
    """Print below a table of checks what the manifest is, and what was left unchecked."""
    from confide.protocol.opt_outs import FOREIGN

    if verdict.passed:
        show(f"manifest: {manifest.mode}{warning(manifest.mode)}")
    if manifest.opt_outs:
        show(f"not checked, because the manifest says so: {', '.join(manifest.opt_outs)}")
    for part in foreign:
        show(f"not this client's release ({FOREIGN}): {part}")


def print_checks(verdict: Verdict, *, title: str, now: int, refusal: str) -> None:
    """Print every check, and whether all passed, for a person.

    Args:
        verdict: All checks.
        title: What was verified.
        now: The time of the judgement in Unix seconds.
        refusal: What follows from a check that failed; the names of these stand behind it.
    """
    # Imported here, so that `confide --help` needs none of it.
    from rich.text import Text

    from confide.client.screen import Screen
    from confide.client.verdict_table import verdict_table

    console = Screen()
    console.print(verdict_table(verdict, title=title))
    if verdict.passed:
        when = datetime.fromtimestamp(now, UTC)
        console.print(f"[green]verified[/green] as of {when:%Y-%m-%d %H:%M:%S} UTC")
    else:
        failed = ", ".join(check.name for check in verdict.checks if not check.passed)
        names = printable(f": {refusal} ({failed})")
        console.print(Text.assemble(("NOT verified", "bold red"), names))


def _status(verdict: Verdict) -> ExitStatus:
    return ExitStatus.PASSED if verdict.passed else ExitStatus.FAILED
