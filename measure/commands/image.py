"""`measure image`: measurements.json for a disk image."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from measure import firmware, image, machines, pcr, report, verity
from measure.commands.common import (
    MAX_BOOT_FILE,
    Commands,
    map_file,
    progress,
    read,
    register,
    write,
)
from measure.errors import InputError
from measure.image import DiskImage
from measure.machines import Machines
from measure.shapes import OVMF_DISK, Shape
from measure.snp import firmware as snp_firmware
from measure.snp import prediction as snp
from measure.snp.kernel import KernelHashes
from measure.status import ExitStatus
from measure.tdx import machine, rtmr, tdvf
from measure.tdx.shape import TdxShape
from measure.uki import Section

_DEFAULT = Machines(vtpm=(OVMF_DISK,))


@dataclass(frozen=True)
class Inputs:
    """Paths of what is measured.

    Attributes:
        disk: the image.
        uki: the UKI that the disk has to boot, if that is to be checked.
        shapes: shapes.json; without it, vtpm is measured for `ovmf-disk`.
        firmware, firmware_sev_snp, firmware_tdx: one for each platform that has machines.
        acpi: for tdx, a folder with one folder for each machine (see `measure.tdx.machine`).
    """

    disk: str
    uki: str | None = None
    shapes: str | None = None
    firmware: str | None = None
    firmware_sev_snp: str | None = None
    firmware_tdx: str | None = None
    acpi: str | None = None


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
    parser.add_argument("--name", help="the image's name (default: the disk's file name)")
    parser.add_argument("-o", "--output", metavar="FILE", help="default: standard output")


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """The options that `inputs` reads."""
    add_machines(parser)
    text = "also require that the disk boots exactly this UKI"
    parser.add_argument("--uki", metavar="FILE", help=text)
    parser.add_argument("--disk", metavar="FILE", required=True, help="the disk image")


def add_machines(parser: argparse.ArgumentParser) -> None:
    """Those of the options that say for which machines an image is measured."""
    for name, help_text in (
        ("--shapes", "shapes.json: the machines (default: vtpm, ovmf-disk)"),
        ("--firmware", "for platform vtpm: OVMF_CODE_4M.fd"),
        ("--firmware-sev-snp", "for platform sev-snp: OVMF.amdsev.fd"),
        ("--firmware-tdx", "for platform tdx: OVMF.tdx.fd"),
    ):
        parser.add_argument(name, metavar="FILE", help=help_text)
    parser.add_argument("--acpi", metavar="FOLDER", help="for tdx: what QEMU shows each machine")


def inputs(options: argparse.Namespace) -> Inputs:
    """The inputs that the options name."""
    return Inputs(**{field.name: getattr(options, field.name) for field in fields(Inputs)})


def measure(paths: Inputs, name: str) -> dict[str, Any]:
    """The measurements of a disk all of whose layers are what its command line says.

    Raises:
        InputError: a file cannot be read, or a platform in shapes.json lacks its firmware.
        FormatError, UnsupportedError: a file that cannot be measured.
    """
    wanted = _DEFAULT
    if paths.shapes is not None:
        wanted = machines.parse(read(paths.shapes), paths.shapes)
    disk = map_file(paths.disk)
    parsed = image.parse(disk, paths.disk)
    if paths.uki is not None and read(paths.uki, MAX_BOOT_FILE) != parsed.uki_bytes:
        raise InputError("the disk boots a different UKI", file=paths.uki)
    progress("checking that each layer has the root hash of the command line")
    verity.check_layers(disk, parsed, paths.disk)
    progress("computing the measurements")
    files: dict[str, bytes | memoryview] = {"disk": disk}
    predictions = report.Predictions(
        vtpm=_vtpm(wanted.vtpm, parsed, paths.firmware, files),
        sev_snp=_sev_snp(wanted.sev_snp, parsed, paths.firmware_sev_snp, files),
        tdx=_tdx(wanted.tdx, parsed, paths, files),
    )
    return report.build(name, files, parsed, predictions)


def run(options: argparse.Namespace) -> ExitStatus:
    """Runs the command."""
    measured = measure(inputs(options), options.name or Path(options.disk).stem)
    write(options.output, report.encode(measured))
    return ExitStatus.OK


def _vtpm(
    shapes: Sequence[Shape],
    parsed: DiskImage,
    path: str | None,
    files: dict[str, bytes | memoryview],
) -> list[pcr.Prediction]:
    """The vtpm predictions; adds the firmware to `files`."""
    flash = _firmware(report.VTPM, shapes, path, files)
    if flash is None:
        return []
    measured = firmware.measure(flash, str(path))
    return [pcr.predict(shape, parsed, measured) for shape in shapes]


def _sev_snp(
    shapes: Sequence[snp.SnpShape],
    parsed: DiskImage,
    path: str | None,
    files: dict[str, bytes | memoryview],
) -> tuple[snp.Prediction, ...]:
    """The sev-snp predictions: the UKI's parts booted directly; adds the firmware to `files`."""
    flash = _firmware(report.SEV_SNP, shapes, path, files)
    if flash is None:
        return ()
    sections, line = parsed.uki.sections, parsed.uki.command_line.encode("ascii")
    kernel = KernelHashes.of(sections[Section.LINUX], sections[Section.INITRD], line)
    return snp.predict(shapes, snp_firmware.from_image(flash, str(path)), kernel)


def _tdx(
    shapes: Sequence[TdxShape],
    parsed: DiskImage,
    paths: Inputs,
    files: dict[str, bytes | memoryview],
) -> list[rtmr.Prediction]:
    """The tdx predictions; adds the firmware to `files`."""
    flash = _firmware(report.TDX, shapes, paths.firmware_tdx, files)
    if (flash is None) != (paths.acpi is None):
        raise InputError("--firmware-tdx and --acpi go together", expected="both, or neither")
    if flash is None:
        return []
    described = tdvf.parse(flash, str(paths.firmware_tdx))
    folders = {shape: Path(str(paths.acpi), shape.name) for shape in shapes}
    return [
        rtmr.predict(shape, described, machine.read(str(folder)), parsed)
        for shape, folder in folders.items()
    ]


def _firmware(
    platform: str, shapes: Sequence[object], path: str | None, files: dict[str, bytes | memoryview]
) -> bytes | None:
    """A platform's firmware, which is needed exactly if there are machines to measure for."""
    name = report.FIRMWARE[platform]
    if bool(shapes) != (path is not None):
        raise InputError(
            f"--{name} and machines of platform {platform} need each other",
            expected="both, or neither",
            seen=f"{len(shapes)} machines, {path or 'no firmware'}",
        )
    if path is None:
        return None
    flash = read(path)
    files[name] = flash
    return flash
