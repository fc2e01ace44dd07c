"""ACPI tables as QEMU hands them to firmware: three fw_cfg files, measured as they are.

Source: QEMU, hw/acpi/bios-linker-loader.c (commands) and hw/i386/acpi-build.c (their order); ACPI
6.5, section 5.2 (tables). The firmware measures the files before it follows the commands, so
pointers and checksums in the tables are those of the file. They are checked because a file that is
not QEMU's would only show as a wrong RTMR 0.
"""

from __future__ import annotations

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
_HEADER_SIZE = 36
_MADT, _MADT_HEADER_SIZE = b"APIC", 44  # ACPI 6.5, section 5.2.12: which processors there are
_PROCESSOR, _X2APIC_PROCESSOR = 0, 9


@dataclass(frozen=True)
class Tables:
    """The raw files etc/table-loader, etc/acpi/rsdp and etc/acpi/tables."""

    loader: bytes
    rsdp: bytes
    tables: bytes


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


def processors(tables: Tables, file: str) -> int:
    """How many processors the tables name.

    Raises:
        FormatError: a malformed list of processors.
    """
    count = 0
    for signature, start, end in _list(tables.tables, file):
        if signature != _MADT:
            continue
        reader = Reader(tables.tables, file, min(start + _MADT_HEADER_SIZE, end), end)
        while reader.remaining:
            kind, size = reader.u8("interrupt controller"), reader.u8("its size")
            if size < 2:
                raise FormatError("invalid list of processors", file=file, offset=reader.offset)
            reader.skip(size - 2, "interrupt controller")
            count += kind in (_PROCESSOR, _X2APIC_PROCESSOR)
    return count


def _list(tables: bytes, file: str) -> list[tuple[bytes, int, int]]:
    """Signature, start and end of each table; they lie one behind the other, before zeros."""
    _check_size(tables, TABLES_UNIT, MAX_TABLES, file)
    listed: list[tuple[bytes, int, int]] = []
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
        listed.append((signature, offset, reader.offset))
    if not listed or tables.count(0, reader.offset) != reader.remaining:
        raise FormatError(
            "not ACPI tables", file=file, offset=reader.offset, expected="tables, then zeros"
        )
    return listed


def _check_size(data: bytes, unit: int, limit: int, file: str) -> None:
    if not 0 < len(data) <= limit or len(data) % unit:
        raise FormatError(
            "the file is not from QEMU",
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
                raise FormatError("data after the last command", file=file, offset=offset)
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
                "an invalid command for loading ACPI tables",
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
        raise FormatError("invalid file name in a command", file=reader.file, offset=offset)
    return text.decode("ascii")
