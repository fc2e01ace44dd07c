"""`measure pcrs`: the TPM registers that a disk image gives, one a line."""

from __future__ import annotations

import argparse

from measure import firmware, image, pcr, verity
from measure.commands.common import Commands, map_file, read, register
from measure.output import print_json, show
from measure.shapes import OVMF_DISK, VTPM_SHAPES
from measure.status import ExitStatus


def add(commands: Commands) -> None:
    """Registers the command."""
    parser = register(
        commands,
        "pcrs",
        run,
        "print the expected TPM registers of a disk image",
        "pcrs --disk disk.raw --firmware OVMF_CODE_4M.fd",
    )
    parser.add_argument("--disk", metavar="FILE", required=True, help="the disk image")
    parser.add_argument("--firmware", metavar="FILE", required=True, help="OVMF_CODE_4M.fd")
    parser.add_argument(
        "--shape",
        choices=VTPM_SHAPES,
        default=OVMF_DISK.name,
        help="the machine (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="one object, register to value")


def run(options: argparse.Namespace) -> ExitStatus:
    """Runs the command."""
    disk = map_file(options.disk)
    parsed = image.parse(disk, options.disk)
    verity.check_layers(disk, parsed, options.disk)
    measured = firmware.measure(read(options.firmware), options.firmware)
    pcrs = pcr.predict(VTPM_SHAPES[options.shape], parsed, measured).pcrs()
    if options.json:
        print_json({str(number): value.hex() for number, value in pcrs.items()})
    else:
        for number, value in pcrs.items():
            show(f"{number:>2} {value.hex()}")
    return ExitStatus.OK
