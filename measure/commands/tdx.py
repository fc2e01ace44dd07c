"""`measure tdx`: MRTD and RTMR 0 to 3 of a TDX machine that boots an image or a kernel."""

from __future__ import annotations

import argparse
from dataclasses import fields

from measure import image
from measure.binding import MRCONFIGID
from measure.commands.common import (
    MAX_BOOT_FILE,
    Commands,
    add_manifest,
    bound,
    launch_json,
    map_file,
    read,
    register,
)
from measure.declare import encode
from measure.errors import InputError
from measure.image import DiskImage
from measure.output import print_json, show
from measure.report import tdx as report
from measure.status import ExitStatus
from measure.tdx import machine, rtmr, shapefile, tdvf
from measure.tdx.rtmr import DirectBoot, Prediction
from measure.tdx.shape import Boot, PageOrder, TdxShape


def add(commands: Commands) -> None:
    """Registers the command."""
    parser = register(
        commands,
        "tdx",
        run,
        "print the TDX registers of a machine that boots a disk image, or a kernel",
        "tdx --firmware OVMF.tdx.fd --machine acpi-tables/qemu-2 --disk disk.raw --memory-mib 2048 "
        "--edk2 2026.08 --page-order single-pass --attributes 0x10000000 --xfam 0x602e7 "
        "--boot direct",
    )
    parser.add_argument("--firmware", required=True, help="the firmware (OVMF.tdx.fd)")
    parser.add_argument(
        "--machine",
        required=True,
        metavar="DIR",
        help="what QEMU shows to the firmware: " + ", ".join(machine.FILES),
    )
    boot = parser.add_mutually_exclusive_group(required=True)
    boot.add_argument("--disk", help="a disk image; --boot says if its UKI or its kernel boots")
    boot.add_argument("--kernel", help="a kernel, with --initrd and --append")
    parser.add_argument("--initrd", help="an initrd (with --kernel)")
    parser.add_argument("--append", metavar="TEXT", help="the command line (with --kernel)")
    _add_shape_options(parser)
    add_manifest(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, with each event")


def _add_shape_options(parser: argparse.ArgumentParser) -> None:
    """The machine's shape: everything is stated, nothing has a default."""
    group = parser.add_argument_group("shape")
    group.add_argument("--memory-mib", required=True, type=int, metavar="N", help="memory in MiB")
    group.add_argument(
        "--edk2", required=True, metavar="YYYY.MM", help="the release of the firmware's edk2"
    )
    group.add_argument(
        "--page-order",
        required=True,
        choices=[order.value for order in PageOrder],
        help="how the VMM adds and measures pages; QEMU 10.1 and later: single-pass",
    )
    group.add_argument("--attributes", required=True, metavar="0x...", help="TD attributes")
    group.add_argument("--xfam", required=True, metavar="0x...", help="extended features")
    group.add_argument(
        "--boot", required=True, choices=[boot.value for boot in Boot], help="what is started"
    )
    group.add_argument(
        "--boot-variable",
        action="append",
        metavar="NAME=HEX",
        help="BootOrder, then each Boot#### in it (for a boot from disk)",
    )


def run(options: argparse.Namespace) -> ExitStatus:
    """Runs the command."""
    prediction = rtmr.predict(
        _shape(options),
        tdvf.parse(read(options.firmware), options.firmware),
        machine.read(options.machine),
        _boots(options),
    )
    mrconfigid = bound(MRCONFIGID, options)
    if options.json:
        print_json(
            {
                **encode(report.write(prediction)),
                "zero": list(rtmr.ZERO_FIELDS),
                **launch_json(MRCONFIGID, mrconfigid),
            }
        )
    else:
        _print_table(prediction, mrconfigid)
    return ExitStatus.OK


def _shape(options: argparse.Namespace) -> TdxShape:
    """The shape that the options state, read as strictly as from a file."""
    names = {field.name for field in fields(shapefile.ShapeFields)} - {"boot_variables"}
    stated = {name: getattr(options, name) for name in names}
    if options.boot_variable:
        pairs = [text.partition("=") for text in options.boot_variable]
        stated["boot_variables"] = [[name, data] for name, _, data in pairs]
    return shapefile.load({**stated, "name": "command-line"}, "options")


def _boots(options: argparse.Namespace) -> DirectBoot | DiskImage:
    if options.disk:
        if options.initrd is not None or options.append is not None:
            raise InputError("--disk has an initrd and a command line of its own")
        return image.parse(map_file(options.disk), options.disk)
    if options.initrd is None or options.append is None:
        raise InputError("--kernel needs --initrd and --append")
    kernel, initrd = (read(path, MAX_BOOT_FILE) for path in (options.kernel, options.initrd))
    return DirectBoot(kernel, initrd, options.append)


def _print_table(prediction: Prediction, mrconfigid: bytes | None) -> None:
    shape = prediction.shape
    mrtd = prediction.mrtd[shape.page_order]
    show(f"MRTD        {mrtd.hex()}  {rtmr.MRTD_COVERS} ({shape.page_order.value})")
    for order, value in prediction.mrtd.items():
        if order is not shape.page_order:
            show(f"  elsewhere {value.hex()}  the same under a {order.value} VMM")
    for number, value in prediction.rtmrs().items():
        show(f"RTMR{number}       {value.hex()}  {rtmr.COVERS[number]}")
        for event in prediction.of(number):
            show(f"  {event.digest.hex()}  {event.component.value}: {event.description}")
    show(f"ATTRIBUTES  {shape.attributes:#x}  as stated; in the quote, not in a register")
    show(f"XFAM        {shape.xfam:#x}  as stated; in the quote, not in a register")
    for name in rtmr.ZERO_FIELDS:
        show(f"{name:<14} zeros")
    if mrconfigid is None:
        show(f"{'MRCONFIGID':<14} of the manifest; --manifest says what")
        return
    show(f"{'MRCONFIGID':<14} {mrconfigid.hex()}  SHA-256 of the manifest's bytes, then zeros")
    show(f"{'launch':<14} {MRCONFIGID.argument(mrconfigid)}  of QEMU's object tdx-guest")
