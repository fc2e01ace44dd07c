"""`measure explain`: which component makes an event log differ from an image."""

from __future__ import annotations

import argparse

from measure import eventlog, explain, report
from measure.commands.common import DIFFERENT, SAME, Commands, map_file, read, register
from measure.commands.image import Inputs, measure
from measure.errors import InputError


def add(commands: Commands) -> None:
    """Registers the command."""
    parser = register(
        commands,
        "explain",
        run,
        "say which component makes an event log differ from an image",
        "explain binary_bios_measurements --image measurements.json",
    )
    parser.add_argument("log", help="a binary_bios_measurements file")
    parser.add_argument("--image", required=True, help="measurements.json, or a disk image")
    parser.add_argument("--firmware", help="the firmware, if --image is a disk image")
    parser.add_argument(
        "--command-line",
        metavar="FILE",
        help="the command line that booted (a copy of /proc/cmdline), to name the layer",
    )


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    log = eventlog.parse(read(options.log), options.log)
    data = map_file(options.image)
    if bytes(data[:1]) == b"{":
        measured = report.parse(bytes(data), options.image)
    elif options.firmware is None:
        raise InputError("a disk image needs --firmware", file=options.image)
    else:
        measured = measure(Inputs(options.image, firmware=options.firmware), "")
    seen_line = None
    if options.command_line is not None:
        seen_line = read(options.command_line).decode("ascii", "replace").rstrip("\n")
    found = explain.explain(log, measured, options.image, seen_line)
    print(explain.render(found))
    return DIFFERENT if found else SAME
