"""`measure diff`: which component differs between two measurements files."""

from __future__ import annotations

import argparse

from measure import explain, report
from measure.commands.common import Commands, read, register
from measure.output import print_json, show
from measure.status import ExitStatus


def add(commands: Commands) -> None:
    """Registers the command."""
    parser = register(
        commands,
        "diff",
        run,
        "say which components differ between two measurements.json files",
        "diff expected.json seen.json",
    )
    parser.add_argument("expected", help="the expected measurements.json")
    parser.add_argument("seen", help="the measurements.json to compare with it")
    parser.add_argument("--json", action="store_true", help="a list of objects, for scripts")


def run(options: argparse.Namespace) -> ExitStatus:
    """Runs the command."""
    expected = report.parse(read(options.expected), options.expected)
    seen = report.parse(read(options.seen), options.seen)
    found = explain.diff(expected, seen, options.expected, options.seen)
    if options.json:
        print_json(explain.as_json(found))
    else:
        show(*explain.render(found).split("\n"))
    return ExitStatus.DIFFERS if found else ExitStatus.OK
