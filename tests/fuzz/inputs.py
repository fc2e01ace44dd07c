"""What a hostile host gives the kernel: one machine for each number of a seed.

Everything comes from a case's own random numbers, so a case can be run again alone. Checksums are
made right afterwards, since a hostile host would do so too. Sources: ACPI specification 6.5,
chapter 5.2 (tables); Documentation/arch/x86/boot.rst of the kernel (e820).
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from tests.fuzz import devices
from tests.fuzz.lying import Liar
from tests.fuzz.machine import ACPI, MEMORY, TABLES, USABLE, Inputs, plain_memory
from tests.support import aml

Tables = dict[bytes, bytes]  # signature to table, checksums as they come

HEADER_SIZE, CHECKSUM_AT, LENGTH_AT = 36, 9, 4
SLOT = 1 << 20  # bytes for each table
PAGE = 4096
# Tables that C code of our kernel looks for, and QEMU's machine has none of.
OTHERS = (b"BOOT", b"CEDT", b"ECDT", b"IVRS", b"LPIT", b"STAO", b"TCPA", b"TPM2", b"CCEL", b"BERT")
SRAT_SIZES = {0: 16, 1: 40, 2: 24, 3: 20, 4: 12, 5: 32, 6: 32}
MADT_SIZES = {
    0: 8,
    1: 12,
    2: 10,
    3: 8,
    4: 6,
    5: 12,
    6: 16,
    7: 22,
    8: 16,
    9: 16,
    10: 12,
    11: 80,
    12: 24,
    13: 24,
    14: 16,
    15: 20,
    16: 16,
    17: 16,
    24: 36,
}
FADT_POINTERS = (
    (36, "<I", b"FACS"),
    (40, "<I", b"DSDT"),
    (132, "<Q", b"FACS"),
    (140, "<Q", b"DSDT"),
)
EDGES = (0, 1, 2, 3, 4, 7, 8, 0x7F, 0x80, 0xFE, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
# Addresses that a host could mean: our tables, the kernel, its parameters, registers, ends.
ADDRESSES = (
    *(
        0,
        0x1000,
        0x9F000,
        0xF0000,
        0x1000000,
        0xC000000,
        TABLES,
        TABLES + SLOT - 1,
        MEMORY - 1,
        MEMORY,
    ),
    *(0xB0000000, 0xFEC00000, 0xFED00000, 0xFED40000, 0xFEE00000, 0xFFFFFFFF, 1 << 32),
    *((1 << 46) - 1, (1 << 52) - PAGE, 1 << 63, (1 << 64) - PAGE, (1 << 64) - 1),
)


def parse(blob: bytes) -> Tables:
    """The tables of QEMU's file etc/acpi/tables, which stand one after the other."""
    tables: Tables = {}
    at = 0
    while any(blob[at : at + 4]):
        size = int.from_bytes(blob[at + LENGTH_AT : at + 8], "little")
        tables[blob[at : at + 4]] = blob[at : at + size]
        at += size
    return tables


def case(genuine: Tables, seed: int, number: int) -> tuple[str, Inputs]:
    """The name of what is wrong with a case's machine, and the machine."""
    chance = random.Random(f"{seed}/{number}")
    kind = KINDS[number % len(KINDS)]
    return kind.__name__.removeprefix("_"), kind(genuine, chance)


def nothing() -> Inputs:
    """A machine whose kernel has to find the tables of SeaBIOS."""
    return Inputs({}, 0, plain_memory())


def plain(genuine: Tables) -> Inputs:
    """The machine as QEMU's own tables describe it."""
    return place(genuine)


def place(
    tables: Tables,
    fadt: Callable[[bytes], bytes] = lambda table: table,
    root: Callable[[bytes], bytes] = lambda table: table,
    pointer: Callable[[bytes], bytes] = lambda table: table,
) -> Inputs:
    """Tables in memory, each at the end of a page, so that one byte further is another mapping.

    The functions change FADT, XSDT and RSDP after their addresses were filled in.
    """
    pieces: dict[int, bytes] = {}
    where: dict[bytes, int] = {}

    def put(name: bytes, table: bytes) -> None:
        start = TABLES + SLOT * len(where)
        # A FACS has to stand at a multiple of 64.
        where[name] = start + (-len(table) % PAGE & (-64 if name == b"FACS" else -1))
        pieces[where[name]] = table

    for name, table in tables.items():
        if name not in (b"FACP", b"RSDT", b"XSDT"):
            put(name, table if name == b"FACS" else with_checksum(table))
    pointing = bytearray(tables[b"FACP"])
    for at, form, name in FADT_POINTERS:
        if at + struct.calcsize(form) <= len(pointing):
            struct.pack_into(form, pointing, at, where[name])
    put(b"FACP", with_checksum(fadt(bytes(pointing))))
    listed = [address for name, address in where.items() if name not in (b"FACS", b"DSDT")]
    xsdt = header(b"XSDT", struct.pack(f"<{len(listed)}Q", *listed))
    put(b"XSDT", with_checksum(root(xsdt)))
    rsdp = b"RSD PTR \0CONFID\x02\0\0\0\0" + struct.pack("<IQI", 36, where[b"XSDT"], 0)
    rsdp = pointer(rsdp)
    rsdp = with_checksum(with_checksum(rsdp, 8, 20), 32, 36)
    put(b"RSDP", rsdp)
    return Inputs(pieces, where[b"RSDP"], plain_memory())


def header(signature: bytes, body: bytes, revision: int = 1) -> bytes:
    """A table of that content, without its checksum."""
    ids = struct.pack("<6s8sI4sI", b"CONFID", b"CONFIDE ", 1, b"CONF", 1)
    return struct.pack("<4sIBB", signature, HEADER_SIZE + len(body), revision, 0) + ids + body


def with_checksum(table: bytes, at: int = CHECKSUM_AT, size: int | None = None) -> bytes:
    """The table, the byte at `at` set so that the sum of its first `size` bytes is 0."""
    if len(table) <= at:
        return table
    changed = bytearray(table)
    changed[at] = 0
    changed[at] = -sum(changed[:size]) & 0xFF
    return bytes(changed)


def disturb(data: bytes, chance: random.Random, start: int = 0) -> bytes:
    """The bytes with one to eight changes at or after `start`."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(start, max(len(changed), start + 1))
        size = chance.choice((1, 2, 4, 8))
        kind = chance.randrange(6)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[at : at + size] = (chance.choice(EDGES) & (1 << 8 * size) - 1).to_bytes(
                size, "little"
            )
        elif kind == 2:
            changed[at : at + 8] = chance.choice(ADDRESSES).to_bytes(8, "little")
        elif kind == 3:
            changed[at : at + size] = chance.randbytes(size)
        elif kind == 4:
            del changed[at : at + chance.randrange(1, 40)]
        else:
            changed[at:at] = changed[at : at + chance.randrange(1, 40)]
    return bytes(changed)


def _with_length(table: bytes, chance: random.Random) -> bytes:
    """The table, its length in the header right most often."""
    size = (
        len(table)
        if chance.randrange(4)
        else chance.choice((*EDGES, len(table) + chance.randrange(-40, 40)))
    )
    return table[:LENGTH_AT] + struct.pack("<I", size & 0xFFFFFFFF) + table[8:]


def _bytes(genuine: Tables, chance: random.Random) -> Inputs:
    """Changed bytes in tables that C code reads."""
    tables = dict(genuine)
    names = [name for name in tables if name not in (b"DSDT", b"FACP", b"RSDT")]
    for name in chance.sample(names, chance.randrange(1, len(names))):
        tables[name] = _with_length(disturb(tables[name], chance, 8), chance)
    return place(tables)


def _subtables(chance: random.Random, sizes: dict[int, int], count: int) -> bytes:
    """Entries of a type and a length, most of the right length, their content by chance."""
    content = b""
    for _ in range(count):
        kind = chance.choice((*sizes, *sizes, chance.randrange(256)))
        size = sizes.get(kind, 16) if chance.randrange(8) else chance.choice((0, 1, 2, 3, 255))
        body = bytearray(chance.randbytes(max(size - 2, 0)))
        if chance.randrange(2):  # small numbers, as processors and domains have, and enabled
            body = bytearray(byte & chance.choice((0, 1, 3)) for byte in body)
        if len(body) >= 8 and chance.randrange(2):
            at = chance.randrange(0, len(body) - 7)
            body[at : at + 8] = chance.choice(ADDRESSES).to_bytes(8, "little")
        content += bytes([kind, size]) + bytes(body)
    return content


def _madt(genuine: Tables, chance: random.Random) -> Inputs:
    """Processors and interrupt controllers that are not there, or not like that."""
    old = genuine[b"APIC"]
    kept = old[HEADER_SIZE:] if chance.randrange(2) else old[HEADER_SIZE : HEADER_SIZE + 8]
    more = _subtables(chance, MADT_SIZES, chance.choice((1, 2, 4, 16, 200)))
    return place(genuine | {b"APIC": _with_length(header(b"APIC", kept + more, old[8]), chance)})


def _numa(genuine: Tables, chance: random.Random) -> Inputs:
    """Memory and processors in domains that are not there; distances and windows between them."""
    srat = struct.pack("<IQ", 1, 0) + _subtables(chance, SRAT_SIZES, chance.choice((1, 2, 8, 200)))
    count = chance.choice((0, 1, 2, 3, 8, 64, 255))
    said = chance.choice((count, count, *ADDRESSES)) & (1 << 64) - 1
    slit = struct.pack("<Q", said) + chance.randbytes(count * count)
    window = b"".join(
        struct.pack(
            "<BBH", chance.choice((0, 1, 1, 2)), 0, chance.choice((0, 4, 36, 40, 44, 0xFFFF))
        )
        + bytes(4)
        + struct.pack("<QQ", chance.choice(ADDRESSES), chance.choice(ADDRESSES))
        + chance.randbytes(16)
        for _ in range(chance.choice((0, 1, 3, 40)))
    )
    made = {
        b"SRAT": header(b"SRAT", srat, 3),
        b"SLIT": header(b"SLIT", slit),
        b"CEDT": header(b"CEDT", window),
    }
    return place(genuine | {name: _with_length(table, chance) for name, table in made.items()})


def _others(genuine: Tables, chance: random.Random) -> Inputs:
    """Tables that our machines never have, with random content."""
    tables = dict(genuine)
    for name in chance.sample(OTHERS, chance.randrange(1, 5)):
        body = bytearray(chance.randbytes(chance.choice((0, 1, 4, 16, 40, 100, 4000))))
        if len(body) >= 16:
            body[chance.randrange(8) : 16] = chance.choice(ADDRESSES).to_bytes(8, "little")
        tables[name] = _with_length(header(name, bytes(body), chance.randrange(6)), chance)
    return place(tables)


def _fadt(genuine: Tables, chance: random.Random) -> Inputs:
    """Registers, flags and addresses of other tables, wherever."""
    return place(genuine, fadt=lambda table: _with_length(disturb(table, chance, 8), chance))


def _root(genuine: Tables, chance: random.Random) -> Inputs:
    """The list of tables and the pointer to it."""
    if chance.randrange(2):
        return place(genuine, root=lambda table: _with_length(disturb(table, chance, 8), chance))
    return place(genuine, pointer=lambda table: disturb(table, chance, 8))


def _byte_code(genuine: Tables, chance: random.Random) -> Inputs:
    """Changed tables of byte code: the machine's, or one more. None of it is run."""
    if chance.randrange(3):
        return place(
            genuine
            | {b"DSDT": _with_length(disturb(genuine[b"DSDT"], chance, HEADER_SIZE), chance)}
        )
    table = aml.table(aml.speaking("a"))
    return place(genuine | {b"SSDT": _with_length(disturb(table, chance, HEADER_SIZE), chance)})


def _e820(genuine: Tables, chance: random.Random) -> Inputs:
    """Memory that is not there, twice there, or of another kind."""
    inputs = place(genuine)
    entries = plain_memory()
    for _ in range(chance.choice((1, 1, 2, 8, 100))):
        size = chance.choice(
            (0, 1, PAGE, 1 << 20, MEMORY, 1 << 40, (1 << 64) - 1, chance.randrange(1 << 30))
        )
        near = chance.choice((*ADDRESSES, chance.randrange(MEMORY)))
        kind = chance.choice((0, USABLE, USABLE, 2, ACPI, 4, 5, 7, 12, 0xFFFFFFFF))
        entry = (near, size, kind)
        if chance.randrange(3):
            entries.insert(chance.randrange(len(entries) + 1), entry)
        else:
            entries[chance.randrange(len(entries))] = entry
    return Inputs(inputs.tables, inputs.rsdp, entries[:128])


def _pci(genuine: Tables, chance: random.Random) -> Inputs:
    """Devices that our machines never have, in number and place of the host's choice."""
    inputs = place(genuine)
    return Inputs(inputs.tables, inputs.rsdp, inputs.e820, devices.some(chance))


def _lies(genuine: Tables, chance: random.Random) -> Inputs:
    """A disk or a network card that lies about what it did."""
    inputs = place(genuine)
    liar = Liar(chance.choice(("disk", "network")), chance.random())
    return Inputs(inputs.tables, inputs.rsdp, inputs.e820, liar=liar)


KINDS: tuple[Callable[[Tables, random.Random], Inputs], ...] = (
    *(_madt, _byte_code, _numa, _fadt, _lies, _others, _e820, _bytes, _lies, _root),
    *(_pci, _lies),
)
