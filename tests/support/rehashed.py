"""A TPM's event log of a boot, as the RTMRs of a TDX machine would have seen the same boot.

No TDX machine is at hand, so nothing here was measured by one. What measures is the same code for a
TPM and for RTMRs (UEFI 2.11, section 38.4); only the registers and the hash differ. The log has
SHA-256 digests, of files in the image and of what the log itself says. Each digest is looked up
among those and replaced by the SHA-384 of the same bytes, so that the order and number of events
are the boot's, not a prediction's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from measure import direct, image, pe, uki
from measure.eventlog import EventLog, EventType
from measure.image import DiskImage
from measure.tdx import machine, rtmr, tdvf
from measure.tdx.rtmr import RTMR_OF_PCR
from measure.tdx.shape import Boot, PageOrder, TdxShape
from measure.tdx.smbios import Statements

# The release of the flake's firmware for machines with a TPM.
EDK2 = (2025, 2)
# A TPM gets a separator in each register; a TDX machine's firmware one in RTMR 0 and in RTMR 1.
_SEPARATED = (4, 7)


def read_disk(folder: Path) -> DiskImage:
    """The disk image in the folder of a role."""
    path = folder / "disk.raw"
    return image.parse(path.read_bytes(), str(path))


def predicted(
    disk: DiskImage, boot: Boot, firmware: Path, acpi_tables: Path
) -> dict[int, list[bytes]]:
    """RTMR 1 and 2 -> the digests predicted for a TDX machine with firmware of the same release."""
    boot_variables = (("BootOrder", b""),)  # in RTMR 0, which a TPM's machine says nothing about
    shape = TdxShape("s", 4 << 30, EDK2, PageOrder.SINGLE, 0, 0, boot, boot_variables)
    code = tdvf.parse((firmware / "OVMF.tdx.fd").read_bytes(), "OVMF.tdx.fd")
    folder = next(path for path in sorted(acpi_tables.iterdir()) if path.is_dir())
    # RTMR 1 and 2 do not depend on the machine; these files are of one with newer firmware.
    described = replace(machine.read(str(folder)), statements=Statements(None, ""))
    found = rtmr.predict(shape, code, described, disk)
    return {number: [event.digest for event in found.of(number)] for number in (1, 2)}


def logged(log: EventLog, disk: DiskImage) -> dict[int, list[bytes]]:
    """RTMR 1 and 2 -> SHA-384 digests in the order of a TPM's log.

    Raises:
        KeyError: an event of these registers is not a digest of anything known.
    """
    known = dict(_known(log, disk))
    found: dict[int, list[bytes]] = {1: [], 2: []}
    for event in log.events:
        number = RTMR_OF_PCR.get(event.pcr)
        if event.type == EventType.NO_ACTION or number not in found:
            continue
        if event.type == EventType.SEPARATOR and event.pcr not in _SEPARATED:
            continue
        found[number].append(known[event.digests["sha256"]])
    return found


def _known(log: EventLog, disk: DiskImage) -> Iterator[tuple[bytes, bytes]]:
    """SHA-256 and SHA-384 of everything that a boot may measure."""
    sections = disk.uki.sections
    contents = [event.data for event in log.events]
    contents += [disk.uki.initrd, *sections.values()]
    contents += [section.value.encode() + b"\0" for section in uki.Section]
    line = disk.uki.command_line
    contents += [
        (text + "\0").encode("utf-16-le") for text in (line, direct.load_options(line, EDK2))
    ]
    for content in contents:
        yield hashlib.sha256(content).digest(), hashlib.sha384(content).digest()
    for program in (disk.uki.image, pe.parse(sections[uki.Section.LINUX], "kernel")):
        yield program.authenticode("sha256"), program.authenticode("sha384")
