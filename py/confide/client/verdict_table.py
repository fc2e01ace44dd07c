"""What was verified, for a person at a terminal: a line for each party, or for each check."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from confide.client.service_verdict import ServiceVerdict
from confide.verify.verdict import Verdict
from measure.printable import printable


def verdict_table(verdict: Verdict, *, title: str) -> Table:
    """Every check with what was expected and seen; a value that was seen as expected shows once."""
    table = Table(title=Text(printable(title)), title_justify="left", show_lines=False)
    table.add_column("check", overflow="fold")
    table.add_column("expected", overflow="fold")
    table.add_column("seen", overflow="fold")
    table.add_column("from", overflow="fold")
    table.add_column("")
    for check in verdict.checks:
        seen = "the same" if check.passed and check.seen == check.expected else check.seen
        passed = Text("pass", style="green") if check.passed else Text("FAIL", style="bold red")
        # Text, not markup: what was seen is hostile input.
        words = (check.name, check.expected, seen, check.source)
        table.add_row(*(Text(printable(word)) for word in words), passed)
    return table


def parties_table(verdict: ServiceVerdict, *, title: str) -> RenderableType:
    """A line for each party of a service; the checks that failed follow in full.

    Args:
        verdict: What the client checked itself.
        title: What was verified.

    Returns:
        Something that fits a terminal of 80 columns and 24 lines if every check passed.
    """
    title_text = Text(printable(title))
    table = Table(title=title_text, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("party", no_wrap=True)
    table.add_column("what was checked")
    table.add_column("checks", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_row("coordinator", "runs the image in the manifest", *_state(verdict.coordinator))
    nodes = {"secret services": verdict.secret_services, "workers": verdict.workers}
    for party, found in nodes.items():
        # How many of how many: a person may expect another number.
        seen = "; ".join(check.seen for check in found.checks)
        table.add_row(party, Text(printable(seen)), *_state(found))
    untrusted = Text("untrusted", style="dim")
    table.add_row("gateway", "nothing: it sees only encrypted data", "", untrusted)
    failed = Verdict(tuple(check for check in verdict.whole.checks if not check.passed))
    return Group(table, verdict_table(failed, title="Failed")) if failed.checks else table


def _state(verdict: Verdict) -> tuple[str, Text]:
    """Passed and all checks of one party, and the verdict."""
    if not verdict.checks:
        return "", Text("not reached", style="bold red")
    passed = sum(check.passed for check in verdict.checks)
    state = Text("verified", style="green") if verdict.passed else Text("FAILED", style="bold red")
    return f"{passed}/{len(verdict.checks)}", state
