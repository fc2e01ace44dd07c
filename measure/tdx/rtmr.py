"""Prediction of a TDX machine's registers: MRTD, and RTMR 0 to 3 with the events of a boot.

Source for which events there are and in which order: Intel TDX Virtual Firmware Design Guide,
section 8; edk2 (OvmfPkg/IntelTdx, TdTcg2Dxe, QemuFwCfgLib, SmbiosMeasurementDxe); for what the TPM
event of the same kind covers, `measure.pcr`. An RTMR is extended like a PCR of the SHA-384 bank.

SMBIOS comes before the boot variables: the firmware hashes both when it is ready to boot, in the
reverse order in which the two drivers have asked to be called, and TdTcg2Dxe asks first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from measure import direct, eventlog, pcr, pe, uki
from measure.errors import InputError, UnsupportedError
from measure.image import DiskImage
from measure.pcr import Component, PcrEvent
from measure.tdx import acpi, hob, mrtd, variables
from measure.tdx.machine import ARGUMENTS, Machine
from measure.tdx.shape import MIB, Boot, PageOrder, TdxShape
from measure.tdx.start import summary_of
from measure.tdx.tdvf import Kind, Tdvf

BANK = "sha384"
# UEFI 2.11, section 38.4.1: which RTMR stands for a PCR. PCR 0, the firmware's code, is in MRTD.
RTMR_OF_PCR = {1: 0, 7: 0, **dict.fromkeys(range(2, 7), 1), **dict.fromkeys(range(8, 16), 2)}
COVERS = {
    0: "machine: memory, firmware's variables, ACPI and SMBIOS tables, boot variables",
    1: "boot path: the kernel, and on a boot from disk the unified kernel image and partitions",
    2: "command line and initrd, and on a boot from disk each section of the unified kernel image",
    3: "nothing: left to the running system, which does not extend it (zeros)",
}
MRTD_COVERS = "firmware code, and the layout of memory when the machine starts"
# Fields of the quote that the VMM sets at launch: 48 bytes each, zero in every shape. MRCONFIGID is
# another one; it has the manifest's hash (`measure.binding`).
ZERO_FIELDS = ("MROWNER", "MROWNERCONFIG")


_RELEASE = re.compile(r"20[0-9]{2}\.[0-9]{2}(?![0-9])", re.ASCII)


@dataclass(frozen=True)
class RtmrEvent:
    """One extend: the register (0 to 3), what it stands for, and the 48-byte digest."""

    rtmr: int
    component: Component
    description: str
    digest: bytes


@dataclass(frozen=True)
class DirectBoot:
    """What QEMU is given with -kernel, -initrd and -append.

    Raises:
        InputError: no initrd, without which the firmware measures less, or a command line that is
            not ASCII, of which it makes one character a byte.
    """

    kernel: bytes
    initrd: bytes
    command_line: str

    def __post_init__(self) -> None:
        if not self.initrd:
            raise InputError("the initrd is empty; a direct boot is only measured with one")
        if not self.command_line.isascii():
            raise InputError(
                "invalid command line", expected="ASCII", seen=ascii(self.command_line)[:80]
            )


@dataclass(frozen=True)
class Prediction:
    """The registers of a machine of `shape`.

    Attributes:
        mrtd: 48 bytes for each page order; the shape's is the one to expect.
        events: of each register, in order.
    """

    shape: TdxShape
    mrtd: dict[PageOrder, bytes]
    events: tuple[RtmrEvent, ...]

    def of(self, rtmr: int) -> list[RtmrEvent]:
        """The events of one register."""
        return [event for event in self.events if event.rtmr == rtmr]

    def rtmrs(self) -> dict[int, bytes]:
        """Register -> its 48-byte value, for all four."""
        return {
            rtmr: eventlog.extend((event.digest for event in self.of(rtmr)), rtmr + 1, BANK)
            for rtmr in COVERS
        }


def predict(
    shape: TdxShape, firmware: Tdvf, machine: Machine, boots: DirectBoot | DiskImage
) -> Prediction:
    """The registers of a machine that boots this.

    Args:
        shape: the machine, as its owner states it.
        firmware: the machine's.
        machine: the tables that its firmware is given.
        boots: a disk image also tells what a direct boot of its kernel is.

    Raises:
        UnsupportedError: something whose effect is not known.
        InputError: a boot from disk without a disk image, or the description of a machine with
            other memory or firmware.
        FormatError: the kernel is not a PE image.
    """
    _require_same_machine(shape, machine)
    orders = {order: mrtd.measure(firmware, order) for order in PageOrder}
    return Prediction(shape, orders, tuple(_boot(shape, firmware, machine, boots)))


def _require_same_machine(shape: TdxShape, machine: Machine) -> None:
    """Compares what both say: Debian's firmware gives its release in SMBIOS, as QEMU the memory.

    A shape that states how its machine is started needs a machine that was started like this.
    """
    said = machine.statements
    if said.memory not in (None, shape.memory):
        raise InputError(
            f"shape {shape.name}: the SMBIOS table belongs to a machine with another memory size",
            expected=f"{shape.memory} bytes",
            seen=f"{said.memory} bytes",
        )
    release = f"{shape.edk2[0]}.{shape.edk2[1]:02}"
    if _RELEASE.match(said.firmware_version) and not said.firmware_version.startswith(release):
        raise InputError(
            f"shape {shape.name}: the SMBIOS table belongs to firmware of another release",
            expected=release,
            seen=said.firmware_version,
        )
    if shape.start is None:
        return
    expected, seen = shape.start.summary(shape.memory // MIB), summary_of(machine.arguments)
    if seen != expected:
        raise InputError(
            f"shape {shape.name}: the arguments beside its folder start a different machine",
            expected=ascii(expected)[:400],
            seen=ascii(seen)[:400] if machine.arguments else f"no {shape.name}{ARGUMENTS}",
        )
    if (vcpus := acpi.processors(machine.acpi, shape.name)) != shape.start.vcpus:
        raise InputError(
            f"shape {shape.name}: the ACPI tables belong to a machine with another number of vCPUs",
            expected=str(shape.start.vcpus),
            seen=str(vcpus),
        )


def direct_boot(image: uki.Uki) -> DirectBoot:
    """A direct boot of the parts of a unified kernel image."""
    sections = image.sections
    return DirectBoot(sections[uki.Section.LINUX], sections[uki.Section.INITRD], image.command_line)


def _boot(
    shape: TdxShape, firmware: Tdvf, machine: Machine, boots: DirectBoot | DiskImage
) -> Iterator[RtmrEvent]:
    yield from _machine_events(shape, firmware, machine)
    if shape.boot is Boot.DIRECT:
        parts = direct_boot(boots.uki) if isinstance(boots, DiskImage) else boots
        kernel = pe.parse(parts.kernel, "kernel").authenticode(BANK)
        yield RtmrEvent(1, Component.KERNEL, "PE image of the kernel", kernel)
        yield from _ready_to_boot(shape, machine)
        options = direct.load_options(parts.command_line, shape.edk2)
        yield from _from_pcr(pcr.kernel_input_events(options, parts.initrd, BANK))
    elif isinstance(boots, DiskImage):
        yield from _ready_to_boot(shape, machine)
        yield from disk_events(boots)
    else:
        raise InputError(f"shape {shape.name} boots from disk, so it needs a disk image")
    yield from _from_pcr(pcr.exit_boot_services_events(BANK))


def disk_events(image: DiskImage) -> Iterator[RtmrEvent]:
    """From the firmware's boot option to the kernel's first instruction.

    Raises:
        UnsupportedError: the stub gives the kernel something random.
    """
    if image.uki.stub.adds_secret:
        raise UnsupportedError(
            "the stub adds a random secret to the initrd on disk boot, so RTMR 2 cannot be "
            "predicted",
            file=image.uki.image.file,
            seen=f"systemd-stub {image.uki.stub.version}",
        )
    yield from _from_pcr(pcr.partition_events(image.table, BANK))
    digest = image.uki.image.authenticode(BANK)
    yield RtmrEvent(1, Component.UKI, "PE image of the UKI", digest)
    yield from _from_pcr(pcr.uki_events(image.uki, BANK))


def _machine_events(shape: TdxShape, firmware: Tdvf, machine: Machine) -> Iterator[RtmrEvent]:
    """RTMR 0 up to the point where the firmware looks for something to start."""
    memory = hob.build(firmware, shape.memory)
    yield _event(Component.MEMORY, f"TD HOB: {shape.memory} bytes of memory", memory)
    store = firmware.data(firmware.only(Kind.CFV))
    variables.require_empty_store(store, f"{firmware.file} (configuration volume)")
    yield _event(Component.VARIABLE_STORE, "configuration volume (no variables)", store)
    if shape.measures_vmm_data:
        yield _event(Component.VMM, "fw_cfg BootMenu", machine.boot_menu)
        if machine.bootorder:
            yield _event(Component.VMM, "fw_cfg bootorder", machine.bootorder)
    yield from _from_pcr(pcr.secure_boot_events(BANK))
    for name, data in (
        ("etc/table-loader", machine.acpi.loader),
        ("etc/acpi/rsdp", machine.acpi.rsdp),
        ("etc/acpi/tables", machine.acpi.tables),
    ):
        yield _event(Component.ACPI_TABLES, f"fw_cfg {name}", data)


def _ready_to_boot(shape: TdxShape, machine: Machine) -> Iterator[RtmrEvent]:
    if shape.measures_vmm_data:
        yield _event(Component.SMBIOS_TABLES, "SMBIOS table, filtered", machine.smbios)
    for name, data in shape.measured_boot_variables():
        yield _event(Component.BOOT_VARIABLES, f"variable {name}", data)
    yield from _from_pcr([pcr.action_event(4, pcr.CALLING_APPLICATION, BANK)])
    (separator,) = _from_pcr([pcr.separator_event(4, BANK)])
    yield replace(separator, rtmr=shape.separator_rtmr)


def _from_pcr(events: Iterable[PcrEvent]) -> Iterator[RtmrEvent]:
    for event in events:
        rtmr = RTMR_OF_PCR[event.pcr]
        yield RtmrEvent(rtmr, event.component, event.description, event.digest)


def _event(component: Component, description: str, data: bytes) -> RtmrEvent:
    """An event of RTMR 0."""
    return RtmrEvent(0, component, description, uki.digest(data, BANK))
