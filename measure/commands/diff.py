"""`measure diff`: what differs between two measurements files."""

from __future__ import annotations

import argparse

from measure import explain, report
from measure.commands.common import DIFFERENT, SAME, Commands, read, register


def add(commands: Commands) -> None:
    """Registers the command."""
    parser = register(
        commands, "diff", run, "compare two measurements.json files", "diff expected.json seen.json"
    )
    parser.add_argument("a", help="expected")
    parser.add_argument("b", help="seen")


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    a = report.parse(read(options.a), options.a)
    b = report.parse(read(options.b), options.b)
    found = explain.diff(a, b, options.a, options.b)
    print(explain.render(found))
    return DIFFERENT if found else SAME
