"""What was verified, for a person: each check with what was expected and what was seen."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from confide.verify.verdict import Verdict


def verdict_table(verdict: Verdict, *, title: str) -> Table:
    """The verdict as a table; values that were expected and seen alike are shown once."""
    table = Table(title=title, title_justify="left", show_lines=False)
    table.add_column("check", overflow="fold")
    table.add_column("expected", overflow="fold")
    table.add_column("seen", overflow="fold")
    table.add_column("from", overflow="fold")
    table.add_column("")
    for check in verdict.checks:
        seen = "the same" if check.passed and check.seen == check.expected else check.seen
        passed = Text("pass", style="green") if check.passed else Text("FAIL", style="bold red")
        # Text, not markup: what was seen is hostile input.
        table.add_row(
            Text(check.name), Text(check.expected), Text(seen), Text(check.source), passed
        )
    return table
