"""The SMBIOS table as firmware measures it: without what differs from one machine to the next.

Source: edk2, MdeModulePkg/Universal/SmbiosMeasurementDxe (releases 2026.05 and 2026.08); SMBIOS
3.7 (DSP0134), sections 6.1 and 7. The firmware hashes a copy of the structures in which it has
blanked some fields. It is the table that the firmware publishes to the system (in Linux:
/sys/firmware/dmi/tables/DMI), which is QEMU's with a type 0 of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from measure.errors import FormatError
from measure.reader import Reader

MAX_TABLE = 0xFFFF
_HEADER_SIZE = 4
_END_OF_TABLE = 127
_FIRST_OEM_TYPE = 128
_FIRMWARE, _MEMORY_ARRAY = 0, 16
_VERSION_AT = 0x05
_CAPACITY_AT, _EXTENDED_CAPACITY_AT = 0x07, 0x0F
_IN_EXTENDED_FIELD = 0x80000000 << 10


@dataclass(frozen=True)
class _Field:
    """A field that is set to zero; `text`: it numbers a string, which is set to blanks."""

    offset: int
    size: int = 1
    text: bool = False


@dataclass(frozen=True)
class Statements:
    """What a table says of its machine.

    Attributes:
        memory: bytes; None if it does not say.
        firmware_version: the firmware's own version; "" if it does not say.
    """

    memory: int | None
    firmware_version: str


_SERIAL = _Field(0x07, text=True)
_BLANKED = {
    1: (_SERIAL, _Field(0x08, 16), _Field(0x18)),  # system: UUID, wake-up type
    2: (_SERIAL, _Field(0x0A, text=True)),  # board: place in the chassis
    3: (_SERIAL, _Field(0x08, text=True)),  # chassis: asset tag
    4: (  # processor: serial number, asset tag, part number; counts; voltage, speed
        _Field(0x20, text=True),
        _Field(0x21, text=True),
        _Field(0x22, text=True),
        _Field(0x23),
        _Field(0x24),
        _Field(0x25),
        _Field(0x2A, 2),
        _Field(0x2C, 2),
        _Field(0x2E, 2),
        _Field(0x11),
        _Field(0x16, 2),
    ),
    17: (_Field(0x18, text=True), _Field(0x19, text=True), _Field(0x1A, text=True)),  # memory
    22: (_SERIAL, _Field(0x10, 2), _Field(0x12, 2)),  # battery
    23: (_Field(0x05, 2),),  # reset count
    27: (_Field(0x0C, 2),),  # nominal speed of a cooler
    39: (_Field(0x08, text=True), _Field(0x09, text=True), _Field(0x0A, text=True)),  # power supply
}
# Nothing but the header: OEM strings, event log, memory errors, boot integrity services.
_EMPTIED = frozenset({11, 15, 18, 31, 33})


def measured(table: bytes, file: str) -> bytes:
    """The bytes that the firmware hashes, as many as the table has.

    Raises:
        FormatError: not a table of whole structures that ends with its end marker.
    """
    return b"".join(
        _blank(kind, size, bytearray(structure), file, offset)
        for kind, size, structure, offset in _structures(table, file)
    )


def statements(table: bytes, file: str) -> Statements:
    """What the table says that a machine's shape says too.

    Raises:
        FormatError: as `measured`, or a structure without the field in question.
    """
    memory, version = None, ""
    for kind, size, structure, offset in _structures(table, file):
        if kind == _FIRMWARE:
            number = Reader(structure, file, min(_VERSION_AT, size), size).u8("firmware version")
            if number:
                start, stop = _string(structure, size, number, file, offset)
                version = structure[start:stop].decode("ascii", "replace")
        elif kind == _MEMORY_ARRAY:
            reader = Reader(structure, file, min(_CAPACITY_AT, size), size)
            memory = reader.u32("maximum capacity") << 10
            if memory == _IN_EXTENDED_FIELD:
                reader.skip(_EXTENDED_CAPACITY_AT - reader.offset, "memory array")
                memory = reader.u64("extended maximum capacity")
    return Statements(memory, version)


def _structures(table: bytes, file: str) -> Iterator[tuple[int, int, bytes, int]]:
    """(type, size of the fields, the structure with its strings, offset) of each structure."""
    if len(table) > MAX_TABLE:
        raise FormatError(
            "the SMBIOS table is too large",
            file=file,
            expected=f"at most {MAX_TABLE} bytes",
            seen=f"{len(table)} bytes",
        )
    reader = Reader(table, file)
    kind = None
    while reader.remaining and kind != _END_OF_TABLE:
        offset = reader.offset
        kind, size = reader.u8("structure type"), reader.u8("structure size")
        if size < _HEADER_SIZE:
            raise FormatError(
                "invalid SMBIOS structure size", file=file, offset=offset, seen=str(size)
            )
        reader.skip(size - 2, "structure")
        end = table.find(b"\0\0", reader.offset)
        if end < 0:
            raise FormatError("an SMBIOS structure has no end", file=file, offset=offset)
        reader.skip(end + 2 - reader.offset, "strings")
        yield kind, size, table[offset : end + 2], offset
    if kind != _END_OF_TABLE or reader.remaining:
        raise FormatError(
            "the SMBIOS table does not end with its end marker",
            file=file,
            offset=reader.offset,
            expected=f"type {_END_OF_TABLE} as the last structure",
            seen=f"type {kind}, then {reader.remaining} bytes",
        )


def _blank(kind: int, size: int, structure: bytearray, file: str, offset: int) -> bytearray:
    """One structure with its strings, after the firmware's filter."""
    if kind in _EMPTIED or kind >= _FIRST_OEM_TYPE:
        structure[_HEADER_SIZE:] = bytes(len(structure) - _HEADER_SIZE)
        return structure
    for field in _BLANKED.get(kind, ()):
        end = field.offset + field.size
        if end > size:  # an older version of the structure, without the field
            continue
        if field.text and structure[field.offset]:
            start, stop = _string(structure, size, structure[field.offset], file, offset)
            structure[start:stop] = b" " * (stop - start)
        structure[field.offset : end] = bytes(field.size)
    return structure


def _string(
    structure: bytes | bytearray, size: int, number: int, file: str, offset: int
) -> tuple[int, int]:
    """Where a structure's string lies; strings are numbered from 1."""
    start = size
    for _ in range(number - 1):
        start = structure.index(0, start) + 1
        if start >= len(structure) - 1:
            break
    if start >= len(structure) - 1 or not structure[start]:
        raise FormatError(
            "an SMBIOS structure names a string that it does not have",
            file=file,
            offset=offset,
            seen=f"string {number}",
        )
    return start, structure.index(0, start)
