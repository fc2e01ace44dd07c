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
BYTE, DWORD, QWORD, STRING = b"\x0a", b"\x0c", b"\x0e", b"\x0d"
LOCAL0 = b"\x60"
ACCESS = {8: 1, 32: 3}  # bits of a field: its AccessType


def package(content: bytes) -> bytes:
    """Content behind its length, which counts itself: one byte below 64, two below 4096."""
    if len(content) + 1 < 64:
        return bytes([len(content) + 1]) + content
    length = len(content) + 2
    assert length < 1 << 12
    return bytes([1 << 6 | length & 15, length >> 4]) + content


def field(name: str, space: int, address: int, bits: int) -> bytes:
    """One field of `bits` (8 or 32) at an address, in a region of its own."""
    region = b"R" + name[1:].encode()
    where = QWORD + struct.pack("<Q", address) + BYTE + bytes([bits // 8])
    content = region + bytes([ACCESS[bits]]) + name.encode() + bytes([bits])
    return REGION + region + bytes([space]) + where + FIELD + package(content)


def say(text: str) -> bytes:
    """Write text to the field COM1."""
    return b"".join(STORE + BYTE + bytes([byte]) + b"COM1" for byte in text.encode())


def touch(*, write: bool) -> bytes:
    """Read the field MEM1, or write 0 to it."""
    return STORE + DWORD + bytes(4) + b"MEM1" if write else STORE + b"MEM1" + LOCAL0


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
    method = METHOD + package(b"_INI\0" + say(before) + touch(write=write) + say(after))
    device = DEVICE + package(
        b"HST0"
        + (NAME + b"_HID" + STRING + b"HOST0001\0")
        + field("COM1", SYSTEM_IO, COM1, 8)
        + field("MEM1", SYSTEM_MEMORY, address, 32)
        + method
    )
    body = SCOPE + package(b"\\_SB_" + device)
    header = struct.pack(
        "<4sIBB6s8sI4sI",
        *(signature.encode(), 36 + len(body), 2, 0),
        *(oem.encode().ljust(6), oem.encode().ljust(8), 1, b"HOST", 1),
    )
    whole = bytearray(header + body)
    whole[9] = -sum(whole) & 0xFF
    return bytes(whole)
