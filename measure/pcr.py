"""Prediction of TPM registers: the events of a boot, each with the component it stands for.

Source for which events there are and in which order: TCG PC Client Platform Firmware Profile 1.06,
section 3.3.4; edk2 stable202502 (Tcg2Pei, Tcg2Dxe, DxeTpm2MeasureBootLib); systemd-stub 257; Linux'
EFI stub (efi_measure_tagged_event). SHA-256 bank. The shape that this holds for is
`shapes.OVMF_DISK`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from measure import eventlog, gpt, pe, uki
from measure.firmware import Measured
from measure.image import DiskImage
from measure.shapes import Shape
from measure.uki import digest

_GLOBAL_VARIABLE = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
_IMAGE_SECURITY = bytes.fromhex("cbb219d73a3d9645a3bcdad00e67656f")
# The variables that decide about Secure Boot (section 3.3.4.8), in the order of their measurement.
_SECURE_BOOT_VARIABLES = (
    (_GLOBAL_VARIABLE, "SecureBoot"),
    (_GLOBAL_VARIABLE, "PK"),
    (_GLOBAL_VARIABLE, "KEK"),
    (_IMAGE_SECURITY, "db"),
    (_IMAGE_SECURITY, "dbx"),
)
_SEPARATOR = bytes(4)


class Component(Enum):
    """What a difference in an event is a difference in, in words for people."""

    FIRMWARE = "firmware"
    BOOT_PATH = "boot path"
    SECURE_BOOT = "Secure Boot settings"
    PARTITION_TABLE = "partition table"
    UKI = "unified kernel image"
    KERNEL = "kernel"
    COMMAND_LINE = "command line"
    INITRD = "initrd"
    OS_RELEASE = "os-release"
    UKI_OTHER = "unified kernel image's other sections"
    ROOT_HASH = "root hash"
    ADDED = "something added at boot"


COMPONENT_OF_SECTION = {
    uki.Section.LINUX: Component.KERNEL,
    uki.Section.CMDLINE: Component.COMMAND_LINE,
    uki.Section.INITRD: Component.INITRD,
    uki.Section.OSREL: Component.OS_RELEASE,
}


@dataclass(frozen=True)
class PcrEvent:
    """One extend: the register, what it stands for, and the 32-byte digest."""

    pcr: int
    component: Component
    description: str
    digest: bytes


@dataclass(frozen=True)
class Prediction:
    """All events of a boot in a machine of `shape`; of each register's events, in order."""

    shape: Shape
    events: tuple[PcrEvent, ...]

    def of(self, pcr: int) -> list[PcrEvent]:
        """The events of one register."""
        return [event for event in self.events if event.pcr == pcr]

    def pcrs(self) -> dict[int, bytes]:
        """Register -> its 32-byte value, for the registers that the shape predicts."""
        return {
            pcr: eventlog.extend((event.digest for event in self.of(pcr)), pcr)
            for pcr in self.shape.predicted
        }


def predict(shape: Shape, image: DiskImage, firmware: Measured) -> Prediction:
    """The events of booting `image` with `firmware`."""
    return Prediction(shape, tuple(_boot(image, firmware)))


def _boot(image: DiskImage, firmware: Measured) -> Iterator[PcrEvent]:
    yield from firmware_events(firmware)
    yield from secure_boot_events()
    action = "Calling EFI Application from Boot Option"
    yield _boot_path(4, action, action.encode())
    for pcr in (0, 2, 3, 4, 5):
        yield _boot_path(pcr, "separator", _SEPARATOR)
    yield from partition_events(image.table)
    yield from uki_events(image.uki)
    for action in ("Exit Boot Services Invocation", "Exit Boot Services Returned with Success"):
        yield _boot_path(5, action, action.encode())


def firmware_events(firmware: Measured) -> Iterator[PcrEvent]:
    """PCR 0, before its separator."""
    name = firmware.version.decode("utf-16-le").rstrip("\0")
    yield PcrEvent(0, Component.FIRMWARE, f"version {name}", digest(firmware.version))
    yield PcrEvent(0, Component.FIRMWARE, "PEI volume", digest(firmware.pei_volume))
    yield PcrEvent(0, Component.FIRMWARE, "DXE volume", digest(firmware.dxe_volume))


def secure_boot_events() -> Iterator[PcrEvent]:
    """PCR 7: every variable empty, as with firmware without Secure Boot; UEFI_VARIABLE_DATA."""
    for guid, name in _SECURE_BOOT_VARIABLES:
        data = guid + struct.pack("<QQ", len(name), 0) + name.encode("utf-16-le")
        yield PcrEvent(7, Component.SECURE_BOOT, f"variable {name} (empty)", digest(data))
    yield PcrEvent(7, Component.SECURE_BOOT, "separator", digest(_SEPARATOR))


def partition_events(table: gpt.Table) -> Iterator[PcrEvent]:
    """PCR 5: the partition table."""
    labels = ", ".join(p.label for p in table.partitions)
    yield PcrEvent(5, Component.PARTITION_TABLE, f"partitions {labels}", digest(table.event_data))


def uki_events(image: uki.Uki) -> Iterator[PcrEvent]:
    """PCR 4: the UKI and the kernel in it; PCR 11: its sections; PCR 9: what the kernel is given.

    PCR 12 and 13 get nothing: no other command line, no credentials, no extensions.
    """
    yield PcrEvent(4, Component.UKI, "PE image of the UKI", image.image.authenticode())
    for section, content in image.measured_sections():
        component = COMPONENT_OF_SECTION.get(section, Component.UKI_OTHER)
        # The name is measured in ASCII with its NUL, though logged in UTF-16.
        name = section.value.encode() + b"\0"
        yield PcrEvent(11, component, f"name of section {section.value}", digest(name))
        yield PcrEvent(11, component, f"section {section.value}", digest(content))
    kernel = pe.parse(image.sections[uki.Section.LINUX], f"{image.image.file} (.linux)")
    yield PcrEvent(4, Component.KERNEL, "PE image of the kernel", kernel.authenticode())
    load_options = (image.command_line + "\0").encode("utf-16-le")
    yield PcrEvent(
        9, Component.COMMAND_LINE, "command line given to the kernel", digest(load_options)
    )
    yield PcrEvent(9, Component.INITRD, "initrd given to the kernel", digest(image.initrd))


def _boot_path(pcr: int, description: str, data: bytes) -> PcrEvent:
    return PcrEvent(pcr, Component.BOOT_PATH, description, digest(data))
