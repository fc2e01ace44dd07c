"""`measure picture`: which bytes land in which register, as a table or as a picture."""

from __future__ import annotations

import argparse

from measure import report
from measure.commands.common import Commands, read, register, write
from measure.output import show
from measure.picture import chain, svg, table
from measure.status import ExitStatus


def add(commands: Commands) -> None:
    """Registers the command."""
    parser = register(
        commands,
        "picture",
        run,
        "show which bytes land in which register: a table, or a picture (SVG)",
        "picture measurements.json -o image.svg",
    )
    parser.add_argument("measurements", help="measurements.json")
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME",
        help="this machine (can be repeated; default: the first of each platform)",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write the picture there (default: print the table)"
    )


def run(options: argparse.Namespace) -> ExitStatus:
    """Runs the command."""
    measured = report.parse(read(options.measurements), options.measurements)
    shown = chain.build(measured, options.measurements, options.shape)
    if options.output is None:
        show(*table.render(shown).split("\n"))
    else:
        write(options.output, svg.render(shown).encode())
    return ExitStatus.OK
