"""The form of measurements.json: each of its fields, once.

Reader, writer and measurements.schema.json follow from it. Texts are printable ASCII, so they can
be shown as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from measure import ovmf
from measure.declare import Nested, Wire, json_schema
from measure.image import MAX_LAYERS
from measure.kinds import (
    Converted,
    Hex,
    Integer,
    ListOf,
    MapOf,
    Name,
    NoneAs,
    Optional,
    Schema,
    Text,
    Word,
)
from measure.machines import MAX_MACHINES
from measure.pcr import Component
from measure.shapes import VTPM_SHAPES
from measure.snp import cpu, vmsa
from measure.snp.digest import PAGE_SIZE
from measure.snp.firmware import MAX_PREPARED, SectionType
from measure.snp.kernel import TABLE_SIZE
from measure.snp.launch import MAX_VCPUS
from measure.tdx.rtmr import COVERS
from measure.tdx.shape import PageOrder
from measure.tdx.shapefile import ShapeFields

FORMAT = "confide-measurements/2"
SCHEMA_FILE = Path(__file__).parents[1] / "measurements.schema.json"
# Some thirty are the most in a real register; what matches two lists of them is cubic.
MAX_EVENTS = 256

LINE = Text(pattern="[ -~]*")
COMMAND_LINE = Text(pattern="[ -~]*", max_length=1 << 20)
SHA256, SHA384 = Hex(32), Hex(48)
_PCR = Converted(Text(pattern="[0-9]|1[0-9]|2[0-3]"), int, str)
_RTMR = Converted(Word(tuple(map(str, COVERS))), int, str)
_ADDRESS = Converted(Text(pattern="0x(0|[1-9a-f][0-9a-f]{0,7})"), lambda text: int(text, 16), hex)
_SECTION = Converted(
    Word(tuple(SectionType.__members__)), SectionType.__getitem__, lambda t: t.name
)
_ANY_DIGEST = Converted(
    Text(pattern="[0-9a-f]{64}|[0-9a-f]{96}"), bytes.fromhex, lambda digest: digest.hex()
)


@dataclass(frozen=True)
class FileEntry:
    """A file that was measured, or that is in one."""

    sha256: Annotated[bytes, SHA256]
    size: Annotated[int, Integer(), "bytes"]


@dataclass(frozen=True)
class Files:
    """The disk, the UKI in it and three of its sections, and the firmware of each platform."""

    disk: FileEntry
    uki: FileEntry
    linux: FileEntry
    initrd: FileEntry
    cmdline: FileEntry
    firmware: Annotated[FileEntry | None, Optional(Nested(FileEntry))] = None
    firmware_sev_snp: Annotated[
        FileEntry | None, Optional(Nested(FileEntry)), Wire("firmware-sev-snp")
    ] = None
    firmware_tdx: Annotated[FileEntry | None, Optional(Nested(FileEntry)), Wire("firmware-tdx")] = (
        None
    )


@dataclass(frozen=True)
class LayerEntry:
    """A dm-verity protected partition that the command line names."""

    name: Annotated[str, Name()]
    root_hash: Annotated[bytes, SHA256]


@dataclass(frozen=True)
class PcrEntry:
    """An event of a TPM's register."""

    component: Annotated[Component, "what a difference here is a difference in"]
    description: Annotated[str, LINE]
    digest: Annotated[bytes, SHA256]


@dataclass(frozen=True)
class RtmrEntry:
    """An event of an RTMR."""

    component: Annotated[Component, "what a difference here is a difference in"]
    description: Annotated[str, LINE]
    digest: Annotated[bytes, SHA384]


@dataclass(frozen=True)
class VtpmMachine:
    """A machine with a TPM: its registers, SHA-256 bank."""

    shape: Annotated[str, Word(tuple(VTPM_SHAPES))]
    pcrs: Annotated[
        Mapping[int, bytes], MapOf(_PCR, SHA256, min_items=1), "register to expected value"
    ]
    events: Annotated[
        Mapping[int, tuple[PcrEntry, ...]],
        MapOf(_PCR, ListOf(Nested(PcrEntry), max_items=MAX_EVENTS), min_items=1),
        "register to what it is extended with, in order",
    ]
    left_out: Annotated[
        Mapping[int, str], MapOf(_PCR, LINE), "register to the reason why it has no value"
    ]


@dataclass(frozen=True)
class SectionEntry:
    """Memory that the VMM prepares."""

    type: Annotated[SectionType, _SECTION]
    address: Annotated[int, _ADDRESS, "in the first 4 GiB"]
    size: Annotated[int, Integer(PAGE_SIZE, MAX_PREPARED, multiple_of=PAGE_SIZE), "bytes"]


@dataclass(frozen=True)
class SnpFirmware:
    """What an SEV-SNP launch needs to know of a firmware besides its bytes."""

    digest: Annotated[bytes, SHA384, "launch digest after the firmware's pages, nothing else"]
    sections: Annotated[
        tuple[SectionEntry, ...],
        ListOf(Nested(SectionEntry), max_items=ovmf.MAX_SECTIONS),
        "in the order in which they are measured",
    ]
    hash_table_offset: Annotated[
        int | None,
        NoneAs(None, Integer(maximum=PAGE_SIZE - TABLE_SIZE)),
        "of the kernel hashes in their page",
    ]
    reset_address: Annotated[
        int | None, NoneAs(None, _ADDRESS), "where the second and further vCPUs start"
    ]


@dataclass(frozen=True)
class LaunchComponent:
    """One input of a launch digest."""

    component: Annotated[str, LINE]
    description: Annotated[str, LINE]
    digest: Annotated[bytes, _ANY_DIGEST]


@dataclass(frozen=True)
class SnpMachine:
    """An SEV-SNP launch: the firmware boots the UKI's kernel, initrd and command line directly."""

    shape: Annotated[str, Name()]
    vmm: Annotated[str, Word(tuple(vmsa.VMMS))]
    vcpu_type: Annotated[str | None, NoneAs(None, Word(tuple(cpu.TYPES)))]
    vcpus: Annotated[int, Integer(1, MAX_VCPUS)]
    guest_features: Annotated[
        int, Integer(1, 2**64 - 1), "SEV_FEATURES; 1 is SEV-SNP and nothing else"
    ]
    launch_digest: Annotated[bytes, SHA384]
    components: Annotated[tuple[LaunchComponent, ...], ListOf(Nested(LaunchComponent), min_items=1)]


@dataclass(frozen=True, kw_only=True)
class TdxMachine(ShapeFields):
    """A TDX machine."""

    shape_name: Annotated[str, Name(), Wire("shape")]
    mrtd: Annotated[
        Mapping[PageOrder, bytes],
        MapOf(Word(PageOrder), SHA384, min_items=len(PageOrder)),
        "MRTD for each page order",
    ]
    rtmrs: Annotated[Mapping[int, bytes], MapOf(_RTMR, SHA384, min_items=len(COVERS))]
    events: Annotated[
        Mapping[int, tuple[RtmrEntry, ...]],
        MapOf(_RTMR, ListOf(Nested(RtmrEntry), max_items=MAX_EVENTS), min_items=len(COVERS)),
        "register to what it is extended with, in order",
    ]


@dataclass(frozen=True)
class Platforms:
    """The machines that the image was measured for, by platform."""

    SCHEMA_RULES: ClassVar[Schema] = {"minProperties": 1}

    vtpm: Annotated[
        tuple[VtpmMachine, ...], Optional(ListOf(Nested(VtpmMachine), MAX_MACHINES, 1))
    ] = ()
    sev_snp: Annotated[
        tuple[SnpMachine, ...],
        Optional(ListOf(Nested(SnpMachine), MAX_MACHINES, 1)),
        Wire("sev-snp"),
    ] = ()
    tdx: Annotated[
        tuple[TdxMachine, ...], Optional(ListOf(Nested(TdxMachine), MAX_MACHINES, 1))
    ] = ()


@dataclass(frozen=True)
class FirmwareEntries:
    """What a launch needs to know of a firmware besides its bytes, by platform."""

    sev_snp: Annotated[SnpFirmware | None, Optional(Nested(SnpFirmware)), Wire("sev-snp")] = None


@dataclass(frozen=True)
class Measurements:
    """What a disk image measures to on each kind of machine, computed before it boots. The file
    itself is canonical JSON: sorted keys, two spaces of indentation, ASCII, one newline at the end.
    """

    image: Annotated[str, LINE, "the image's name"]
    files: Files
    command_line: Annotated[str, COMMAND_LINE, "as the kernel gets it"]
    layers: Annotated[tuple[LayerEntry, ...], ListOf(Nested(LayerEntry), max_items=MAX_LAYERS)]
    firmware: FirmwareEntries
    platforms: Platforms
    format: Annotated[str, Word((FORMAT,))] = field(default=FORMAT, init=False)


def schema_text() -> str:
    """The JSON Schema of measurements.json, as `SCHEMA_FILE` has it."""
    schema = json_schema(Measurements, id="urn:confide:measurements:2", title=FORMAT)
    return json.dumps(schema, indent=2) + "\n"
