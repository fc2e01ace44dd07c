"""`measure image`: measurements.json for a disk image."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from measure import firmware, image, pcr, report, verity
from measure.commands.common import SAME, Commands, map_file, read, register, write
from measure.errors import InputError
from measure.shapes import OVMF_DISK


def add(commands: Commands) -> None:
    """Registers the command."""
    parser = register(
        commands,
        "image",
        run,
        "write measurements.json for a disk image",
        "image --disk disk.raw --firmware OVMF_CODE_4M.fd -o measurements.json",
    )
    add_inputs(parser)
    parser.add_argument("--uki", help="also require that the disk boots exactly this UKI")
    parser.add_argument("--name", help="the image's name (default: the disk's file name)")
    parser.add_argument("-o", "--output", help="where to write (default: standard output)")


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """The options that say what is measured."""
    parser.add_argument("--disk", required=True, help="the disk image")
    parser.add_argument("--firmware", required=True, help="the firmware's code (OVMF_CODE_4M.fd)")


def measure(disk_path: str, firmware_path: str, uki_path: str | None, name: str) -> dict[str, Any]:
    """The measurements of a disk all of whose layers are what its command line says."""
    disk, flash = map_file(disk_path), read(firmware_path)
    parsed = image.parse(disk, disk_path)
    if uki_path is not None and read(uki_path) != parsed.uki_bytes:
        raise InputError("the disk boots another UKI than this one", file=uki_path)
    verity.check_layers(disk, parsed, disk_path)
    prediction = pcr.predict(OVMF_DISK, parsed, firmware.measure(flash, firmware_path))
    return report.build(name, disk, flash, parsed, prediction)


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    name = options.name or Path(options.disk).stem
    measured = measure(options.disk, options.firmware, options.uki, name)
    write(options.output, report.encode(measured))
    return SAME
