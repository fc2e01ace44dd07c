"""QEMU's commands for loading ACPI tables, made again from the tables.

QEMU writes them in a fixed order for a fixed set of tables; true of QEMU 9 to 11 for machines
without a TPM. Source: hw/acpi/bios-linker-loader.c (commands), hw/i386/acpi-build.c (their order).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from measure.tdx.acpi import LOADER_UNIT, RSDP, RSDP_SIZE, TABLES, Tables

ALLOCATE, ADD_POINTER, ADD_CHECKSUM = 1, 2, 3
HIGH, SEGMENT_F = 1, 2  # zones of memory
HEADER_SIZE, CHECKSUM_AT = 36, 9
RSDP_CHECKSUM_AT, RSDP_POINTER_AT = 8, 16
# Fields of FACP that point to other tables: offset and size.
FACP_POINTERS = ((36, 4), (40, 4), (140, 8))

Place = tuple[int, int]  # a table's offset and size


def rebuild(tables: bytes) -> Tables:
    """The three files of a machine of which only QEMU's tables are known."""
    listed = list_tables(tables)
    commands = b"".join(_commands(listed))
    loader = commands.ljust(-(-len(commands) // LOADER_UNIT) * LOADER_UNIT, b"\0")
    rsdp = b"RSD PTR \0BOCHS \0" + dict(listed)[b"RSDT"][0].to_bytes(4, "little")
    return Tables(loader, rsdp, tables)


def list_tables(tables: bytes) -> list[tuple[bytes, Place]]:
    """Each table's signature and place, in file order."""
    listed = []
    at = 0
    while any(tables[at : at + 4]):
        signature, size = struct.unpack_from("<4sI", tables, at)
        listed.append((signature, (at, size)))
        at += size
    return listed


def _commands(listed: list[tuple[bytes, Place]]) -> Iterator[bytes]:
    """The commands in QEMU's order: each table is checksummed when its pointers are done."""
    places = dict(listed)
    rsdt, rsdt_size = places[b"RSDT"]
    yield _allocate(RSDP, 16, SEGMENT_F)
    yield _allocate(TABLES, 64, HIGH)
    yield _checksum(places[b"DSDT"])
    for at, size in FACP_POINTERS:
        yield _pointer(TABLES, places[b"FACP"][0] + at, size)
    yield _checksum(places[b"FACP"])
    for signature, place in listed:
        if signature not in (b"FACS", b"DSDT", b"FACP", b"RSDT"):
            yield _checksum(place)
    for at in range(HEADER_SIZE, rsdt_size, 4):
        yield _pointer(TABLES, rsdt + at, 4)
    yield _checksum(places[b"RSDT"])
    yield _pointer(RSDP, RSDP_POINTER_AT, 4)
    yield _command(ADD_CHECKSUM, RSDP, struct.pack("<3I", RSDP_CHECKSUM_AT, 0, RSDP_SIZE))


def _allocate(name: str, alignment: int, zone: int) -> bytes:
    return _command(ALLOCATE, name, struct.pack("<IB", alignment, zone))


def _pointer(name: str, at: int, size: int) -> bytes:
    return _command(ADD_POINTER, name, struct.pack("<56sIB", TABLES.encode(), at, size))


def _checksum(place: Place) -> bytes:
    offset, size = place
    return _command(ADD_CHECKSUM, TABLES, struct.pack("<3I", offset + CHECKSUM_AT, offset, size))


def _command(kind: int, name: str, fields: bytes) -> bytes:
    return (struct.pack("<I56s", kind, name.encode()) + fields).ljust(128, b"\0")
