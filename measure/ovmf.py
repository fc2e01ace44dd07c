"""OVMF's description of itself to the VMM: the table at its end, and what that points to.

Source: edk2, OvmfPkg/ResetVector (Ia16/ResetVectorVtf0.asm: the table; X64/OvmfSevMetadata.asm:
"ASEV"; X64/IntelTdxMetadata.asm: "TDVF"). The table ends 32 bytes before the end of the image and
is read backwards; each entry is its data, u16 length (of data, length and GUID), GUID. The last one
is the footer, whose length is that of the whole table. Other entries are kept as they are: newer
firmware adds some.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from measure.errors import FormatError
from measure.reader import Reader

MAX_IMAGE = 64 << 20
# The VMM maps the image so that it ends at 4 GiB.
TOP = 1 << 32
MAX_SECTIONS = 64  # of each metadata; OVMF has some ten

SEV_METADATA = uuid.UUID("dc886566-984a-4798-a75e-5585a7bf67cc")
SEV_HASH_TABLE = uuid.UUID("7255371f-3a3b-4b04-927b-1da6efa8d454")
SEV_ES_RESET = uuid.UUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
TDX_METADATA = uuid.UUID("e47a6535-984a-4798-865e-4685a7bf8ec2")

_FOOTER = uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
_BEHIND_TABLE = 32
_ENTRY_HEADER = 18  # u16 length and GUID
_METADATA_HEADER = 16  # signature, length, version and count
_METADATA_VERSION = 1


@dataclass(frozen=True)
class SevSection:
    """A range of guest memory that the VMM prepares before an SEV-SNP launch.

    Attributes:
        gpa, size: guest physical address and bytes (u32 both; size may be 0).
        type: section type (1 SEC memory, 2 secrets, 3 CPUID, 4 SVSM calling area, 16 hashes).
        offset: of this description in the image.
    """

    gpa: int
    size: int
    type: int
    offset: int


@dataclass(frozen=True)
class TdxSection:
    """A range of guest memory that the VMM prepares before a TDX launch (TDVF design guide, 11.2).

    Attributes:
        data_offset, raw_size: the section's bytes in the image (u32; not checked: the code half of
            a firmware in two files points outside itself).
        gpa, memory_size: guest physical address and bytes (u64).
        type: section type (0 BFV, 1 CFV, 2 TD HOB, 3 temporary memory, 4 permanent memory, ...).
        attributes: bit 0 extend the measurement, bit 1 page added after the launch.
        offset: of this description in the image.
    """

    data_offset: int
    raw_size: int
    gpa: int
    memory_size: int
    type: int
    attributes: int
    offset: int


@dataclass(frozen=True)
class HashTable:
    """Where the firmware looks for the hashes of kernel, initrd and command line (0, 0: nowhere).

    Attributes:
        base, size: guest physical address and bytes.
    """

    base: int
    size: int


@dataclass(frozen=True)
class Ovmf:
    """The self-description of one image.

    Attributes:
        entries: every entry of the table, by GUID, without the footer.
        sev_sections: in file order; None if the image has no SEV metadata.
        hash_table: None if the image has no such entry.
        reset_eip: where SEV-ES and SEV-SNP application processors start; None without entry.
        tdx_sections: in file order; None if the image has no TDX metadata.
    """

    entries: dict[uuid.UUID, bytes]
    sev_sections: tuple[SevSection, ...] | None
    hash_table: HashTable | None
    reset_eip: int | None
    tdx_sections: tuple[TdxSection, ...] | None


def parse(image: bytes | memoryview, file: str) -> Ovmf:
    """Reads the table and everything known that it points to.

    Raises:
        FormatError: no table, or something in it that does not follow its format.
    """
    entries = _entries(image, file)
    hash_table = _fixed_entry(entries, SEV_HASH_TABLE, 8, file)
    reset = _fixed_entry(entries, SEV_ES_RESET, 4, file)
    return Ovmf(
        entries=entries,
        sev_sections=_sev_sections(image, entries, file),
        hash_table=HashTable(hash_table.u32("base"), hash_table.u32("size"))
        if hash_table
        else None,
        reset_eip=reset.u32("address") if reset else None,
        tdx_sections=_tdx_sections(image, entries, file),
    )


def _entries(image: bytes | memoryview, file: str) -> dict[uuid.UUID, bytes]:
    """The table's entries, from the one next to the footer to the first in the file."""
    if len(image) > MAX_IMAGE:
        raise FormatError(
            "the firmware is too large",
            file=file,
            expected=f"at most {MAX_IMAGE} bytes",
            seen=f"{len(image)} bytes",
        )
    end = len(image) - _BEHIND_TABLE
    guid, length = _entry_header(image, end, 0, file)
    if guid != _FOOTER:
        raise FormatError(
            "no table at the firmware's end, so this is not OVMF (or only a part of it)",
            file=file,
            offset=end - 16,
            expected=f"GUID {_FOOTER}",
            seen=str(guid),
        )
    _check_length(length, end, end, file)
    start = end - length
    entries: dict[uuid.UUID, bytes] = {}
    end -= _ENTRY_HEADER
    while end > start:
        guid, length = _entry_header(image, end, start, file)
        _check_length(length, end - start, end, file)
        if guid in entries or guid == _FOOTER:
            raise FormatError(
                "the firmware's table has an entry twice",
                file=file,
                offset=end - _ENTRY_HEADER,
                seen=str(guid),
            )
        entries[guid] = bytes(image[end - length : end - _ENTRY_HEADER])
        end -= length
    return entries


def _entry_header(
    image: bytes | memoryview, end: int, start: int, file: str
) -> tuple[uuid.UUID, int]:
    """GUID and length of the entry that ends at `end`; neither may begin before `start`."""
    if end - start < _ENTRY_HEADER:
        raise FormatError(
            "the firmware's table is truncated",
            file=file,
            expected=f"{_ENTRY_HEADER} bytes for length and GUID of an entry",
            seen=f"{max(end - start, 0)} bytes",
        )
    reader = Reader(image, file, end - _ENTRY_HEADER, end)
    length = reader.u16("entry length")
    return uuid.UUID(bytes_le=reader.take(16, "entry GUID")), length


def _check_length(length: int, most: int, end: int, file: str) -> None:
    """Refuses an entry that is smaller than its own header or larger than what holds it."""
    if not _ENTRY_HEADER <= length <= most:
        raise FormatError(
            "invalid length of an entry in the firmware's table",
            file=file,
            offset=end - _ENTRY_HEADER,
            expected=f"{_ENTRY_HEADER} to {most}",
            seen=str(length),
        )


def _fixed_entry(
    entries: dict[uuid.UUID, bytes], guid: uuid.UUID, size: int, file: str
) -> Reader | None:
    """An entry whose data is `size` bytes; None if there is no such entry."""
    data = entries.get(guid)
    if data is None:
        return None
    if len(data) != size:
        raise FormatError(
            f"the firmware's table entry {guid} has the wrong size",
            file=file,
            expected=f"{size} bytes",
            seen=f"{len(data)} bytes",
        )
    return Reader(data, f"{file} (table entry {guid})")


def _sev_sections(
    image: bytes | memoryview, entries: dict[uuid.UUID, bytes], file: str
) -> tuple[SevSection, ...] | None:
    reader = _metadata(image, entries, SEV_METADATA, b"ASEV", 12, file)
    if reader is None:
        return None
    sections = []
    while reader.remaining:
        offset = reader.offset
        gpa, size = reader.u32("address"), reader.u32("size")
        if gpa + size > TOP:
            raise FormatError(
                "an SEV section ends above 4 GiB",
                file=file,
                offset=offset,
                expected=f"at most {TOP:#x}",
                seen=f"{gpa:#x} + {size:#x}",
            )
        sections.append(SevSection(gpa, size, reader.u32("type"), offset))
    return tuple(sections)


def _tdx_sections(
    image: bytes | memoryview, entries: dict[uuid.UUID, bytes], file: str
) -> tuple[TdxSection, ...] | None:
    reader = _metadata(image, entries, TDX_METADATA, b"TDVF", 32, file)
    if reader is None:
        return None
    sections = []
    while reader.remaining:
        offset = reader.offset
        sections.append(
            TdxSection(
                reader.u32("data offset"),
                reader.u32("raw size"),
                reader.u64("address"),
                reader.u64("memory size"),
                reader.u32("type"),
                reader.u32("attributes"),
                offset,
            )
        )
    return tuple(sections)


def _metadata(
    image: bytes | memoryview,
    entries: dict[uuid.UUID, bytes],
    guid: uuid.UUID,
    signature: bytes,
    section_size: int,
    file: str,
) -> Reader | None:
    """A reader of exactly the sections that a metadata entry points to; None without that entry.

    The entry holds the distance (u32) from the end of the image to signature, u32 length of header
    and sections, u32 version, u32 number of sections.
    """
    entry = _fixed_entry(entries, guid, 4, file)
    if entry is None:
        return None
    name = signature.decode("ascii")
    distance = entry.u32("distance")
    if not _METADATA_HEADER <= distance <= len(image):
        raise FormatError(
            f"the {name} metadata lies outside the image",
            file=file,
            expected=f"{_METADATA_HEADER:#x} to {len(image):#x} bytes from the end",
            seen=f"{distance:#x}",
        )
    start = len(image) - distance
    reader = Reader(image, file, start)
    header = (
        reader.take(4, "signature"),
        reader.u32("length"),
        reader.u32("version"),
        reader.u32("number of sections"),
    )
    count = header[3]
    length = _METADATA_HEADER + count * section_size
    if header != (signature, length, _METADATA_VERSION, count):
        raise FormatError(
            f"the {name} metadata has an invalid header",
            file=file,
            offset=start,
            expected=f"{signature!r}, length {length}, version {_METADATA_VERSION}",
            seen=f"{header[0]!r}, length {header[1]}, version {header[2]}",
        )
    if count > MAX_SECTIONS:
        raise FormatError(
            f"the {name} metadata has too many sections",
            file=file,
            offset=start,
            expected=f"at most {MAX_SECTIONS}",
            seen=str(count),
        )
    return Reader(image, file, start + _METADATA_HEADER, start + length)
