"""ACPI tables as QEMU hands them to firmware: three fw_cfg files, measured as they are.

Source: QEMU, hw/acpi/bios-linker-loader.c (commands) and hw/i386/acpi-build.c (their order); ACPI
6.5, section 5.2 (tables). The firmware measures the files before it follows the commands, so
pointers and checksums in the tables are those of the file. They are checked because a file that is
not QEMU's would only show as a wrong RTMR 0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from measure.errors import FormatError
from measure.reader import Reader

TABLES, RSDP = "etc/acpi/tables", "etc/acpi/rsdp"
LOADER_UNIT, TABLES_UNIT = 0x1000, 0x20000  # QEMU pads the files to multiples of these
RSDP_SIZE = 20
MAX_LOADER, MAX_TABLES = 16 * LOADER_UNIT, 128 * TABLES_UNIT
MAX_TABLE_COUNT = 4096

_COMMAND_SIZE, _NAME_SIZE = 128, 56
_END, _ALLOCATE, _ADD_POINTER, _ADD_CHECKSUM = 0, 1, 2, 3
_HIGH, _SEGMENT_F = 1, 2  # zones of memory
_HEADER_SIZE, _CHECKSUM_AT = 36, 9
_RSDP_CHECKSUM_AT, _RSDP_POINTER_AT = 8, 16
# Fields of FACP that point to other tables: offset and size.
_FACP_POINTERS = ((36, 4), (40, 4), (140, 8))


@dataclass(frozen=True)
class Tables:
    """The raw files etc/table-loader, etc/acpi/rsdp and etc/acpi/tables."""

    loader: bytes
    rsdp: bytes
    tables: bytes


@dataclass(frozen=True)
class _Table:
    signature: bytes
    offset: int
    size: int


def parse(loader: bytes, rsdp: bytes, tables: bytes, file: str) -> Tables:
    """Checks the three files against each other; `file` names the machine they are from.

    Raises:
        FormatError: not what QEMU hands to firmware.
    """
    _check_size(loader, LOADER_UNIT, MAX_LOADER, f"{file} (table-loader)")
    _list(tables, f"{file} (tables)")
    if len(rsdp) != RSDP_SIZE or rsdp[:8] != b"RSD PTR ":
        raise FormatError(
            "not the pointer to the ACPI tables",
            file=f"{file} (rsdp)",
            expected=f"RSD PTR, {RSDP_SIZE} bytes",
            seen=f"{rsdp[:8]!r}, {len(rsdp)} bytes",
        )
    _check_commands(loader, {RSDP: len(rsdp), TABLES: len(tables)}, f"{file} (table-loader)")
    return Tables(loader, rsdp, tables)


def rebuild(tables: bytes, file: str) -> Tables:
    """The three files of a machine of which only the tables are known.

    QEMU writes the commands in a fixed order for a fixed set of tables; true of QEMU 9 to 11 for
    machines without a TPM.

    Raises:
        FormatError: not QEMU's tables.
    """
    listed = _list(tables, file)
    rsdt = _only(listed, b"RSDT", file)
    commands = b"".join(_commands(listed, rsdt, file))
    loader = commands.ljust(-(-len(commands) // LOADER_UNIT) * LOADER_UNIT, b"\0")
    rsdp = b"RSD PTR \0BOCHS \0" + rsdt.offset.to_bytes(4, "little")
    return Tables(loader, rsdp, tables)


def _commands(listed: list[_Table], rsdt: _Table, file: str) -> Iterator[bytes]:
    """The commands in QEMU's order: each table is checksummed when its pointers are done."""
    dsdt, facp = _only(listed, b"DSDT", file), _only(listed, b"FACP", file)
    yield _allocate(RSDP, 16, _SEGMENT_F)
    yield _allocate(TABLES, 64, _HIGH)
    yield _checksum(dsdt)
    for at, size in _FACP_POINTERS:
        yield _pointer(TABLES, facp.offset + at, size)
    yield _checksum(facp)
    for table in listed:
        if table.signature not in (b"FACS", b"DSDT", b"FACP", b"RSDT"):
            yield _checksum(table)
    for at in range(_HEADER_SIZE, rsdt.size, 4):
        yield _pointer(TABLES, rsdt.offset + at, 4)
    yield _checksum(rsdt)
    yield _pointer(RSDP, _RSDP_POINTER_AT, 4)
    yield _command(_ADD_CHECKSUM, RSDP, struct.pack("<3I", _RSDP_CHECKSUM_AT, 0, RSDP_SIZE))


def _allocate(name: str, alignment: int, zone: int) -> bytes:
    return _command(_ALLOCATE, name, struct.pack("<IB", alignment, zone))


def _pointer(name: str, at: int, size: int) -> bytes:
    target = TABLES.encode().ljust(_NAME_SIZE, b"\0")
    return _command(_ADD_POINTER, name, target + struct.pack("<IB", at, size))


def _checksum(table: _Table) -> bytes:
    fields = (table.offset + _CHECKSUM_AT, table.offset, table.size)
    return _command(_ADD_CHECKSUM, TABLES, struct.pack("<3I", *fields))


def _command(kind: int, name: str, fields: bytes) -> bytes:
    head = kind.to_bytes(4, "little") + name.encode().ljust(_NAME_SIZE, b"\0")
    return (head + fields).ljust(_COMMAND_SIZE, b"\0")


def _list(tables: bytes, file: str) -> list[_Table]:
    """The tables in file order, to the zeros behind the last one."""
    _check_size(tables, TABLES_UNIT, MAX_TABLES, file)
    listed: list[_Table] = []
    reader = Reader(tables, file)
    while any(tables[reader.offset : reader.offset + 4]):
        offset = reader.offset
        signature, size = reader.take(4, "table signature"), reader.u32("table size")
        if not signature.isalnum() or size < _HEADER_SIZE or len(listed) >= MAX_TABLE_COUNT:
            raise FormatError(
                "not an ACPI table",
                file=file,
                offset=offset,
                expected=f"a signature of 4 letters, a size of {_HEADER_SIZE} or more",
                seen=f"{signature!r}, {size}",
            )
        reader.skip(size - 8, f"table {signature.decode('ascii')}")
        listed.append(_Table(signature, offset, size))
    if not listed or tables.count(0, reader.offset) != reader.remaining:
        raise FormatError(
            "not ACPI tables", file=file, offset=reader.offset, expected="tables, then zeros"
        )
    return listed


def _only(listed: list[_Table], signature: bytes, file: str) -> _Table:
    found = [table for table in listed if table.signature == signature]
    if len(found) != 1:
        raise FormatError(
            "bad set of ACPI tables",
            file=file,
            expected=f"exactly one {signature.decode('ascii')}",
            seen=str(len(found)),
        )
    return found[0]


def _check_size(data: bytes, unit: int, limit: int, file: str) -> None:
    if not 0 < len(data) <= limit or len(data) % unit:
        raise FormatError(
            "not a file that QEMU made",
            file=file,
            expected=f"a multiple of {unit:#x} bytes, at most {limit:#x}",
            seen=f"{len(data):#x} bytes",
        )


def _check_commands(loader: bytes, sizes: dict[str, int], file: str) -> None:
    """Raises unless every command works on allocated files, within them, and zeros follow."""
    allocated: set[str] = set()
    for offset in range(0, len(loader), _COMMAND_SIZE):
        reader = Reader(loader, file, offset, offset + _COMMAND_SIZE)
        kind = reader.u32("command")
        if kind == _END:
            if any(loader[offset:]):
                raise FormatError("data behind the last command", file=file, offset=offset)
            break
        name = _name(reader)
        if kind == _ALLOCATE:
            alignment, zone = reader.u32("alignment"), reader.u8("zone")
            fits = name not in allocated and alignment.bit_count() == 1
            fits = fits and name in sizes and zone in (_HIGH, _SEGMENT_F)
            allocated.add(name)
        elif kind == _ADD_POINTER:
            target = _name(reader)
            at, size = reader.u32("pointer offset"), reader.u8("pointer size")
            fits = {name, target} <= allocated and size in (1, 2, 4, 8)
            fits = fits and at + size <= sizes[name]
        elif kind == _ADD_CHECKSUM:
            at, start, size = (reader.u32("checksum field") for _ in range(3))
            fits = name in allocated and start <= at < start + size <= sizes[name]
        else:
            fits = False
        if not fits or any(reader.take(reader.remaining, "padding")):
            raise FormatError(
                "a bad command for loading ACPI tables",
                file=file,
                offset=offset,
                expected=f"allocate, add pointer or add checksum, within {', '.join(sizes)}",
                seen=f"command {kind} for {name!r}",
            )
    if allocated != set(sizes):
        raise FormatError(
            "not every ACPI file is loaded",
            file=file,
            expected=", ".join(sizes),
            seen=", ".join(sorted(allocated)) or "none",
        )


def _name(reader: Reader) -> str:
    """A file name, at most 55 characters and zeros."""
    offset = reader.offset
    text = reader.take(_NAME_SIZE, "file name").rstrip(b"\0")
    if len(text) == _NAME_SIZE or not all(0x21 <= byte <= 0x7E for byte in text):
        raise FormatError("bad file name in a command", file=reader.file, offset=offset)
    return text.decode("ascii")
