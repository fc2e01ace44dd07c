"""Command line: `python -m measure COMMAND ...`.

Exit status: 0 success or no difference, 1 a difference was found, 2 an error.
"""

from __future__ import annotations

import argparse
import mmap
import os
import sys
from pathlib import Path
from typing import Any

from measure import eventlog, explain, firmware, image, pcr, report, verity
from measure.errors import InputError, MeasureError
from measure.shapes import OVMF_DISK


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; prints errors as one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except MeasureError as error:
        print(f"measure: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="measure", description="Expected measurements of a disk image, without booting it."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    sub = command("image", _image, "write measurements.json for a disk image")
    _add_inputs(sub)
    sub.add_argument("--uki", help="also require that the disk boots exactly this UKI")
    sub.add_argument("--name", help="the image's name (default: the disk's file name)")
    sub.add_argument("-o", "--output", help="where to write (default: standard output)")

    sub = command("pcrs", _pcrs, "print the expected registers of a disk image")
    _add_inputs(sub)

    sub = command("eventlog", _eventlog, "print an event log and the registers it replays to")
    sub.add_argument("log", help="a binary_bios_measurements file")

    sub = command(
        "explain", _explain, "say which component makes an event log differ from an image"
    )
    sub.add_argument("log", help="a binary_bios_measurements file")
    sub.add_argument("--image", required=True, help="measurements.json, or a disk image")
    sub.add_argument("--firmware", help="the firmware, if --image is a disk image")
    sub.add_argument(
        "--command-line",
        metavar="FILE",
        help="the command line that booted (a copy of /proc/cmdline), to name the layer",
    )

    sub = command("diff", _diff, "compare two measurements.json files")
    sub.add_argument("a", help="expected")
    sub.add_argument("b", help="seen")
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--disk", required=True, help="the disk image")
    parser.add_argument("--firmware", required=True, help="the firmware's code (OVMF_CODE_4M.fd)")


def _measure(disk_path: str, firmware_path: str, uki_path: str | None, name: str) -> dict[str, Any]:
    disk, flash = _map(disk_path), _read(firmware_path)
    parsed = image.parse(disk, disk_path)
    if uki_path is not None and _read(uki_path) != parsed.uki_bytes:
        raise InputError("the disk boots another UKI than this one", file=uki_path)
    verity.check_layers(disk, parsed, disk_path)
    prediction = pcr.predict(OVMF_DISK, parsed, firmware.measure(flash, firmware_path))
    return report.build(name, disk, flash, parsed, prediction)


def _image(options: argparse.Namespace) -> int:
    name = options.name or Path(options.disk).stem
    encoded = report.encode(_measure(options.disk, options.firmware, options.uki, name))
    if options.output is None:
        sys.stdout.write(encoded.decode("ascii"))
        return 0
    try:
        Path(options.output).write_bytes(encoded)
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror}", file=options.output) from None
    return 0


def _pcrs(options: argparse.Namespace) -> int:
    measured = _measure(options.disk, options.firmware, None, "")
    for platform in measured["platforms"]["vtpm"]:
        for number, value in sorted(platform["pcrs"].items(), key=lambda item: int(item[0])):
            print(f"{number:>2} {value}")
    return 0


def _eventlog(options: argparse.Namespace) -> int:
    log = eventlog.parse(_read(options.log), options.log)
    for event in log.events:
        digest = event.digests.get("sha256", b"").hex() or "-"
        print(f"{event.pcr:>2} {event.type_name:<30} {digest} {explain.summary(event)}")
    for bank in log.banks:
        for number, value in sorted(log.replay(bank).items()):
            print(f"{bank} {number:>2} {value.hex()}")
    return 0


def _explain(options: argparse.Namespace) -> int:
    log = eventlog.parse(_read(options.log), options.log)
    data = _map(options.image)
    if bytes(data[:1]) == b"{":
        measured = report.parse(bytes(data), options.image)
    elif options.firmware is None:
        raise InputError("a disk image needs --firmware", file=options.image)
    else:
        measured = _measure(options.image, options.firmware, None, "")
    seen_line = None
    if options.command_line is not None:
        seen_line = _read(options.command_line).decode("ascii", "replace").rstrip("\n")
    found = explain.explain(log, measured, options.image, seen_line)
    print(explain.render(found))
    return 1 if found else 0


def _diff(options: argparse.Namespace) -> int:
    a = report.parse(_read(options.a), options.a)
    b = report.parse(_read(options.b), options.b)
    found = explain.diff(a, b, options.a, options.b)
    print(explain.render(found))
    return 1 if found else 0


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", file=path) from None


def _map(path: str) -> memoryview:
    """A file's content without reading it all; disks are large and mostly hashed once."""
    try:
        with Path(path).open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", file=path) from None


if __name__ == "__main__":
    sys.exit(main())
