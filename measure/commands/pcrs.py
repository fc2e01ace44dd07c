"""`measure pcrs`: the registers of a disk image, one a line."""

from __future__ import annotations

import argparse

from measure.commands.common import SAME, Commands, print_json, register
from measure.commands.image import add_inputs, inputs, measure


def add(commands: Commands) -> None:
    """Registers the command."""
    parser = register(
        commands,
        "pcrs",
        run,
        "print the expected TPM registers of a disk image",
        "pcrs --disk disk.raw --firmware OVMF_CODE_4M.fd",
    )
    add_inputs(parser)
    parser.add_argument("--json", action="store_true", help="one object: register to value")


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    measured = measure(inputs(options), "")
    for platform in measured["platforms"].get("vtpm", []):
        if options.json:
            print_json(platform["pcrs"])
            continue
        for number, value in sorted(platform["pcrs"].items(), key=lambda item: int(item[0])):
            print(f"{number:>2} {value}")
    return SAME
