"""Small TDX firmware, and machines as QEMU describes them, built from the formats' descriptions."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence

from measure.tdx import acpi
from tests.support import qemu_acpi
from tests.support.measurement import ovmf_builders

PAGE = 0x1000
MEMORY = 2 << 30
# data offset, data size, address, size in memory, type, attributes
SECTIONS = (
    (PAGE, 2 * PAGE, 0xFFFFD000, 2 * PAGE, 0, 1),
    (0, PAGE, 0xFFFFC000, PAGE, 1, 0),
    (0, 0, 0x811000, 0xF000, 3, 0),
    (0, 0, 0x80B000, 0x2000, 3, 0),
    (0, 0, 0x809000, 0x2000, 2, 0),
    (0, 0, 0x800000, 0x6000, 3, 0),
)
Section = tuple[int, int, int, int, int, int]


def changed(index: int, field: int, value: int) -> list[Section]:
    """SECTIONS with one field of one section replaced."""
    sections = [list(section) for section in SECTIONS]
    sections[index][field] = value
    return [(a, b, c, d, e, f) for a, b, c, d, e, f in sections]


def variable_store(variables: bytes = b"") -> bytes:
    """A configuration volume of one page, with an authenticated variable store."""
    volume = bytes(16) + uuid.UUID("fff12b8d-7696-4c8b-a985-2747075b4f50").bytes_le
    volume += struct.pack("<Q4sIHHHBB", PAGE, b"_FVH", 0x4FEFF, 72, 0, 0, 0, 2) + bytes(16)
    store = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
    store += struct.pack("<IBB6x", 0x800, 0x5A, 0xFE)
    return (volume + store + variables).ljust(PAGE, b"\xff")


def firmware(sections: Sequence[Section] = SECTIONS, store: bytes | None = None) -> bytes:
    """Three pages: the configuration volume, then code that ends with OVMF's table."""
    metadata = [struct.pack("<IIQQII", *section) for section in sections]
    code = ovmf_builders.image(
        None, hash_table=None, tdx=ovmf_builders.metadata(b"TDVF", metadata), pages=2
    )
    return (variable_store() if store is None else store) + code


def acpi_table(signature: bytes, body: bytes = b"") -> bytes:
    head = signature + struct.pack("<I", 36 + len(body)) + b"\1\0BOCHS BXPC    "
    return head.ljust(36, b"\0") + body


def acpi_tables(
    names: Sequence[bytes] = (b"FACS", b"DSDT", b"FACP", b"APIC", b"RSDT"), madt: bytes = b""
) -> bytes:
    """etc/acpi/tables: a table with each signature; `madt` is the content of APIC."""
    bodies = {b"FACP": bytes(208), b"RSDT": bytes(4 * (len(names) - 2)), b"DSDT": b"\x10\x20\x30"}
    bodies[b"APIC"] = madt
    return b"".join(acpi_table(name, bodies.get(name, b"")) for name in names).ljust(
        acpi.TABLES_UNIT, b"\0"
    )


def structure(kind: int, fields: bytes, *strings: bytes) -> bytes:
    """An SMBIOS structure."""
    head = bytes([kind, 4 + len(fields)]) + (0x100 * kind & 0xFFFF).to_bytes(2, "little")
    return head + fields + (b"".join(s + b"\0" for s in strings) or b"\0") + b"\0"


def smbios(memory: int = MEMORY, version: bytes = b"2026.08+ds-2") -> bytes:
    """A system with a serial number and a UUID, OEM strings, memory, firmware, the end marker."""
    system = structure(1, b"\1\2\0\3" + bytes(range(1, 17)) + b"\6\0\0", b"Maker", b"Box", b"S123")
    array = structure(16, struct.pack("<BBBIHH", 1, 3, 6, memory >> 10, 0xFFFE, 1))
    firmware = structure(0, b"\1\2" + bytes(20), b"Debian", version)
    return system + structure(11, b"\1", b"secret") + array + firmware + structure(127, b"")


def machine_files() -> dict[str, bytes]:
    tables = qemu_acpi.rebuild(acpi_tables())
    return {
        "table-loader": tables.loader,
        "rsdp": tables.rsdp,
        "tables": tables.tables,
        "smbios": smbios(),
        "boot-menu": bytes(2),
        "bootorder": b"/rom@genroms/linuxboot_dma.bin\0",
    }
