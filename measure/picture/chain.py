"""What is measured (sources), where it lands (registers), and which goes where (links)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from measure import pcr, report
from measure.errors import InputError
from measure.image import parse_layers
from measure.pcr import Component
from measure.report import SEV_SNP, TDX, VTPM, Predictions
from measure.tdx import rtmr
from measure.verity import BLOCK

# Where in the picture a source stands.
IMAGE, UKI, LAYERS, MACHINE = "image", "unified kernel image", "layers", "machine"

_FIRMWARE = "firmware"
_SOURCES = {
    Component.PARTITION_TABLE: "partition-table",
    Component.UKI: "uki",
    Component.KERNEL: "kernel",
    Component.INITRD: "initrd",
    Component.COMMAND_LINE: "command-line",
    Component.OS_RELEASE: "os-release",
    Component.UKI_OTHER: "other-sections",
    Component.MEMORY: "memory",
    Component.ACPI_TABLES: "tables",
    Component.SMBIOS_TABLES: "tables",
    Component.VMM: "tables",
    Component.SECURE_BOOT: "variables",
    Component.VARIABLE_STORE: "variables",
    Component.BOOT_VARIABLES: "variables",
    Component.FIRMWARE: _FIRMWARE,
}
_SNP_SOURCES = {"vcpu-0": "vcpus", "vcpu-n": "vcpus"}


@dataclass(frozen=True)
class Source:
    """Some bytes that are measured.

    Attributes:
        key: unique.
        group: one of IMAGE, UKI, LAYERS, MACHINE.
        title, detail: for people.
        size: bytes; None if the measurements do not say.
    """

    key: str
    group: str
    title: str
    detail: str
    size: int | None = None


@dataclass(frozen=True)
class Register:
    """A register that a report or quote shows.

    Attributes:
        name: "PCR 4", "launch digest", "MRTD", "RTMR 0".
        covers: for people.
        value: in hex.
        sources: keys of what lands in it; none if all it gets is the same in every boot.
    """

    name: str
    covers: str
    value: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Panel:
    """One machine's registers."""

    platform: str
    shape: str
    registers: tuple[Register, ...]


@dataclass(frozen=True)
class Chain:
    """All of it; a layer's key is "layer NAME", and its root hash is on the command line."""

    image: str
    sources: tuple[Source, ...]
    panels: tuple[Panel, ...]

    def landing(self, key: str, panel: Panel) -> list[Register]:
        """The registers of a panel in which a source lands, directly."""
        return [register for register in panel.registers if key in register.sources]


def build(measured: dict[str, Any], file: str, shapes: Sequence[str] = ()) -> Chain:
    """The chain for some machines, or for the first of each platform.

    Args:
        measured: the parsed measurements.json.
        file: the name of `measured` in errors.
        shapes: names of machines.

    Raises:
        InputError: a machine that the measurements do not have.
    """
    panels = list(_panels(report.read(measured, file)))
    known = [panel.shape for panel in panels]
    for name in shapes:
        if name not in known:
            expected = ", ".join(known)
            raise InputError("no such machine", file=file, expected=expected, seen=name)
    if shapes:
        chosen = [panel for panel in panels if panel.shape in shapes]
    else:
        chosen = [
            next(panel for panel in panels if panel.platform == platform)
            for platform in dict.fromkeys(panel.platform for panel in panels)
        ]
    used = {key for panel in chosen for register in panel.registers for key in register.sources}
    sources = [s for s in _sources(measured, chosen) if s.key in used or s.group == LAYERS]
    return Chain(measured["image"], tuple(sources), tuple(chosen))


def _panels(found: Predictions) -> Iterator[Panel]:
    for pcrs in found.vtpm:
        shape, values = pcrs.shape, pcrs.pcrs()
        registers = [
            _register(VTPM, f"PCR {n}", shape.covers[n], values[n], _components(pcrs.of(n)))
            for n in shape.predicted
        ]
        yield Panel(VTPM, shape.name, tuple(registers))
    for launch in found.sev_snp:
        names = [c.name for c in launch.launch.components(launch.shape.vcpus)]
        keys = [_SNP_SOURCES.get(name, name) for name in names]
        covers = "every page that the guest starts with"
        register = Register("launch digest", covers, launch.digest.hex(), _own(SEV_SNP, keys))
        yield Panel(SEV_SNP, launch.shape.name, (register,))
    for machine in found.tdx:
        values = machine.rtmrs()
        mrtd = machine.mrtd[machine.shape.page_order]
        registers = [_register(TDX, "MRTD", rtmr.MRTD_COVERS, mrtd, [Component.FIRMWARE])]
        registers += [
            _register(TDX, f"RTMR {n}", rtmr.COVERS[n], values[n], _components(machine.of(n)))
            for n in sorted(values)
        ]
        yield Panel(TDX, machine.shape.name, tuple(registers))


def _components(events: Sequence[pcr.PcrEvent] | Sequence[rtmr.RtmrEvent]) -> list[Component]:
    return [event.component for event in events]


def _register(
    platform: str, name: str, covers: str, value: bytes, components: Iterable[Component]
) -> Register:
    keys = [
        _SOURCES.get(component, component.value)
        for component in components
        if component is not Component.BOOT_PATH
    ]
    return Register(name, covers, value.hex(), _own(platform, keys))


def _own(platform: str, keys: Iterable[str]) -> tuple[str, ...]:
    """The keys, each once; a platform's firmware is its own."""
    return tuple(
        dict.fromkeys(f"{_FIRMWARE} {platform}" if key == _FIRMWARE else key for key in keys)
    )


def _sources(measured: dict[str, Any], panels: Sequence[Panel]) -> Iterator[Source]:
    """Everything that can land in a register of these panels, in the picture's order."""
    files = measured["files"]

    def size(name: str) -> int | None:
        return int(files[name]["size"]) if name in files else None

    def sha256(name: str) -> str:
        return f", SHA-256 {files[name]['sha256'][:12]}…" if name in files else ""

    yield Source("partition-table", IMAGE, "Partition table", "GPT header and used entries")
    path = f"EFI/BOOT/BOOTX64.EFI{sha256('uki')}"
    yield Source("uki", IMAGE, "Unified kernel image", path, size("uki"))
    for key, title, detail, name in (
        ("kernel", "Kernel", ".linux", "linux"),
        ("initrd", "Initrd", ".initrd", "initrd"),
        ("command-line", "Command line", ".cmdline with root hashes", "cmdline"),
        ("os-release", "os-release", ".osrel", ""),
        ("other-sections", "Other sections", ".uname, .sbat, ...", ""),
    ):
        yield Source(key, UKI, title, detail + sha256(name), size(name))
    for layer in parse_layers(measured["command_line"], "measurements"):
        detail = f"dm-verity root hash {layer.root_hash[:12]}…"
        title = f"Layer {layer.name}"
        yield Source(f"layer {layer.name}", LAYERS, title, detail, layer.data_blocks * BLOCK)
    for panel in dict.fromkeys(panel.platform for panel in panels):
        name = report.FIRMWARE[panel]
        detail = f"OVMF{sha256(name)}"
        yield Source(f"{_FIRMWARE} {panel}", MACHINE, f"Firmware for {panel}", detail, size(name))
    yield from _machine_sources(panels)


def _machine_sources(panels: Sequence[Panel]) -> Iterator[Source]:
    named = {
        "vcpus": ("vCPUs", "first registers of each: type, number, guest features"),
        "memory": ("Memory", "its size, as the TD HOB tells it"),
        "tables": ("Machine description", "ACPI and SMBIOS tables, fw_cfg items"),
        "variables": ("Firmware's variables", "Secure Boot (off), boot options"),
    }
    for key, (title, detail) in named.items():
        yield Source(key, MACHINE, title, detail)
    known = {*named, *_SOURCES.values()}
    for panel in panels:
        for register in panel.registers:
            for key in register.sources:
                if key not in known and not key.startswith(_FIRMWARE):
                    known.add(key)
                    yield Source(key, MACHINE, key[0].upper() + key[1:], "")
