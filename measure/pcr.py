"""Prediction of TPM registers: the events of a boot, each with the component it stands for.

Source for which events there are and in which order: TCG PC Client Platform Firmware Profile 1.06,
section 3.3.4; edk2 stable202502 (Tcg2Pei, Tcg2Dxe, DxeTpm2MeasureBootLib); systemd-stub; Linux' EFI
stub (efi_measure_tagged_event). The machines that this holds for are in `shapes`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from measure import direct, eventlog, gpt, pe, uki
from measure.errors import UnsupportedError
from measure.firmware import Measured
from measure.image import DiskImage
from measure.shapes import OVMF_DIRECT, Shape
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
CALLING_APPLICATION = "Calling EFI Application from Boot Option"


class Component(StrEnum):
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
    MEMORY = "memory size"
    VARIABLE_STORE = "firmware's variable store"
    BOOT_VARIABLES = "boot variables"
    ACPI_TABLES = "ACPI tables"
    SMBIOS_TABLES = "SMBIOS tables"
    VCPUS = "number of vCPUs"
    VCPU_TYPE = "vCPU type"
    GUEST_FEATURES = "guest features"
    VMM = "VMM"
    KERNEL_HASHES = "kernel hashes"
    SHAPE = "machine shape"
    EVENT_LOG = "event log"
    UNEXPLAINED = "cause not found"


COMPONENT_OF_SECTION = {
    uki.Section.LINUX: Component.KERNEL,
    uki.Section.CMDLINE: Component.COMMAND_LINE,
    uki.Section.INITRD: Component.INITRD,
    uki.Section.OSREL: Component.OS_RELEASE,
}


@dataclass(frozen=True)
class PcrEvent:
    """One extend: the register, what it stands for, and the digest (32 bytes for SHA-256)."""

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
    """The events of booting `image` in a machine of `shape`.

    Args:
        shape: the machine.
        image: the disk that it boots.
        firmware: the machine's.

    Raises:
        UnsupportedError: a register that the shape covers cannot be predicted for this image.
    """
    boot = _direct_boot if shape.name == OVMF_DIRECT.name else _disk_boot
    events = boot(image, firmware)
    return Prediction(shape, tuple(event for event in events if event.pcr in shape.covers))


def _disk_boot(image: DiskImage, firmware: Measured) -> Iterator[PcrEvent]:
    """The firmware starts the UKI from the disk."""
    if image.uki.stub.adds_secret:
        predictable = (str(n) for n, stub in uki.STUBS.items() if not stub.adds_secret)
        raise UnsupportedError(
            "the stub adds a random secret to the initrd on disk boot: PCR 9 cannot be predicted",
            file=image.uki.image.file,
            expected=f"systemd-stub {' or '.join(predictable)}",
            seen=str(image.uki.stub.version),
        )
    yield from firmware_events(firmware)
    yield from secure_boot_events()
    yield from _ready_to_boot()
    yield from partition_events(image.table)
    yield PcrEvent(4, Component.UKI, "PE image of the UKI", image.uki.image.authenticode())
    yield from uki_events(image.uki)
    yield from exit_boot_services_events()


def _direct_boot(image: DiskImage, firmware: Measured) -> Iterator[PcrEvent]:
    """QEMU's -kernel: the firmware loads it before it looks at any boot option."""
    yield from firmware_events(firmware)
    yield from secure_boot_events()
    yield kernel_event(image.uki)
    yield from _ready_to_boot()
    release = direct.edk2_release(_version(firmware), "firmware")
    command_line = direct.load_options(image.uki.command_line, release)
    yield from kernel_input_events(command_line, image.uki.sections[uki.Section.INITRD])
    yield from exit_boot_services_events()


def _ready_to_boot() -> Iterator[PcrEvent]:
    yield action_event(4, CALLING_APPLICATION)
    for pcr in (0, 2, 3, 4, 5):
        yield separator_event(pcr)


def exit_boot_services_events(bank: str = "sha256") -> Iterator[PcrEvent]:
    """PCR 5: the kernel takes over."""
    for action in ("Exit Boot Services Invocation", "Exit Boot Services Returned with Success"):
        yield action_event(5, action, bank)


def firmware_events(firmware: Measured) -> Iterator[PcrEvent]:
    """PCR 0, before its separator."""
    yield _firmware(f"version {_version(firmware)}", firmware.version)
    yield _firmware("PEI volume", firmware.pei_volume)
    yield _firmware("DXE volume", firmware.dxe_volume)


def secure_boot_events(bank: str = "sha256") -> Iterator[PcrEvent]:
    """PCR 7: every variable empty, as with firmware without Secure Boot; UEFI_VARIABLE_DATA."""
    for guid, name in _SECURE_BOOT_VARIABLES:
        data = guid + struct.pack("<QQ", len(name), 0) + name.encode("utf-16-le")
        yield PcrEvent(7, Component.SECURE_BOOT, f"variable {name} (empty)", digest(data, bank))
    yield PcrEvent(7, Component.SECURE_BOOT, "separator", digest(_SEPARATOR, bank))


def partition_events(table: gpt.Table, bank: str = "sha256") -> Iterator[PcrEvent]:
    """PCR 5: the partition table."""
    labels = ", ".join(p.label for p in table.partitions)
    value = digest(table.event_data, bank)
    yield PcrEvent(5, Component.PARTITION_TABLE, f"partitions {labels}", value)


def uki_events(image: uki.Uki, bank: str = "sha256") -> Iterator[PcrEvent]:
    """What the stub of a running UKI does: PCR 11 gets its sections, PCR 4 and 9 the kernel's.

    PCR 12 and 13 get nothing: no other command line, no credentials, no extensions.
    """
    for section, content in image.measured_sections():
        component = COMPONENT_OF_SECTION.get(section, Component.UKI_OTHER)
        # The name is measured in ASCII with its NUL, though logged in UTF-16.
        name = section.value.encode() + b"\0"
        yield PcrEvent(11, component, f"name of section {section.value}", digest(name, bank))
        yield PcrEvent(11, component, f"section {section.value}", digest(content, bank))
    if image.stub.loads_kernel:
        yield kernel_event(image, bank)
    yield from kernel_input_events(image.command_line, image.initrd, bank)


def kernel_event(image: uki.Uki, bank: str = "sha256") -> PcrEvent:
    """PCR 4: the firmware loads the kernel in the UKI."""
    kernel = pe.parse(image.sections[uki.Section.LINUX], f"{image.image.file} (.linux)")
    return PcrEvent(4, Component.KERNEL, "PE image of the kernel", kernel.authenticode(bank))


def kernel_input_events(
    command_line: str, initrd: bytes, bank: str = "sha256"
) -> Iterator[PcrEvent]:
    """PCR 9: what the kernel's EFI stub is given; the command line in UTF-16 with its NUL."""
    options = digest((command_line + "\0").encode("utf-16-le"), bank)
    yield PcrEvent(9, Component.COMMAND_LINE, "command line given to the kernel", options)
    yield PcrEvent(9, Component.INITRD, "initrd given to the kernel", digest(initrd, bank))


def action_event(pcr: int, action: str, bank: str = "sha256") -> PcrEvent:
    """A step of the boot that is measured as its name."""
    return PcrEvent(pcr, Component.BOOT_PATH, action, digest(action.encode(), bank))


def separator_event(pcr: int, bank: str = "sha256") -> PcrEvent:
    """The end of the firmware's part of a register."""
    return PcrEvent(pcr, Component.BOOT_PATH, "separator", digest(_SEPARATOR, bank))


def _version(firmware: Measured) -> str:
    return firmware.version.decode("utf-16-le").rstrip("\0")


def _firmware(description: str, data: bytes) -> PcrEvent:
    return PcrEvent(0, Component.FIRMWARE, description, digest(data))
