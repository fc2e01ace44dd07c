"""ACPI tables with byte code, as a hostile host writes them.

Just enough of AML (ACPI specification 6.5, 20.2) for a device whose `_INI` writes to the serial
port. A kernel that runs the host's byte code runs it while it starts.
"""

from __future__ import annotations

import struct

SYSTEM_MEMORY, SYSTEM_IO = 0, 1  # address spaces
COM1 = 0x3F8
# Operators, by their names in the specification
EXT, NAME, SCOPE, METHOD, STORE = b"\x5b", b"\x08", b"\x10", b"\x14", b"\x70"
DEVICE, REGION, FIELD = EXT + b"\x82", EXT + b"\x80", EXT + b"\x81"
BYTE, WORD, STRING, NOTHING = b"\x0a", b"\x0b", b"\x0d", b"\xa3"
HEADER = struct.Struct("<4sIBB6s8sI4sI")
CHECKSUM_AT = 9  # byte of a table's header


def package(content: bytes) -> bytes:
    """Content behind its length (PkgLength, 20.2.4), in two bytes that count themselves."""
    size = len(content) + 2
    return bytes([1 << 6 | size & 15, size >> 4]) + content


def speaking(text: str) -> bytes:
    """Byte code of a device that says a text when it is set up."""
    port = REGION + b"RCOM" + bytes([SYSTEM_IO]) + WORD + struct.pack("<H", COM1) + BYTE + b"\1"
    field = FIELD + package(b"RCOM" + b"\1" + b"COM1" + b"\x08")
    code = b"".join(STORE + BYTE + bytes([byte]) + b"COM1" for byte in text.encode())
    content = b"HST0" + NAME + b"_HID" + STRING + b"HOST0001\0" + port + field
    content += METHOD + package(b"_INI\0" + code)
    return SCOPE + package(b"\\_SB_" + DEVICE + package(content))


def table(code: bytes, signature: str = "SSDT", oem: str = "HOST", size: int = 0) -> bytes:
    """A table of some byte code, filled up to a size with code that does nothing."""
    names = oem.encode().ljust(6), oem.encode().ljust(8)
    code = code.ljust(size - HEADER.size, NOTHING)
    header = HEADER.pack(signature.encode(), HEADER.size + len(code), 2, 0, *names, 1, b"HOST", 1)
    whole = bytearray(header + code)
    whole[CHECKSUM_AT] = -sum(whole) & 0xFF
    return bytes(whole)
