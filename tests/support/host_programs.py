"""Programs that a hostile host hands to firmware: EFI applications and option ROMs.

They write a line to the serial port and stop there. Sources: Microsoft PE format (headers);
UEFI specification 2.10, 14.4.2 and PCI firmware specification 3.3, 5.1 (option ROM images).
"""

from __future__ import annotations

import struct

APPLICATION, BOOT_DRIVER = 10, 11  # PE subsystems
SERIAL_PORT = 0x3F8
ROM_HEADER = 0x40  # bytes before the program in an option ROM
_X86_64 = 0x8664
_PAGE, _ALIGNMENT = 0x1000, 0x200
_TEXT_AT, _TEXT_SIZE, _RELOCATIONS_AT = 0x400, 0x400, 0x800
_BLOCK = 512  # unit of an option ROM's size


def program(line: str, subsystem: int = APPLICATION) -> bytes:
    """An EFI program of x86-64 that writes `line` to the serial port and halts."""
    loop = (
        b"\x66\xba" + struct.pack("<H", SERIAL_PORT)  # mov dx, port
        + b"\xac"  # lodsb
        + b"\x84\xc0"  # test al, al
        + b"\x74\x03"  # jz to hlt
        + b"\xee"  # out dx, al
        + b"\xeb\xf8"  # jmp to lodsb
        + b"\xf4\xeb\xfd"  # hlt; jmp to hlt
    )  # fmt: skip
    code = b"\x48\x8d\x35" + struct.pack("<i", len(loop)) + loop  # lea rsi, [behind the code]
    text = (code + b"\r\n" + line.encode("ascii") + b"\r\n\0").ljust(_TEXT_SIZE, b"\0")
    relocations = struct.pack("<IIHH", _PAGE, 12, 0, 0).ljust(_ALIGNMENT, b"\0")
    return _headers(subsystem).ljust(_TEXT_AT, b"\0") + text + relocations


def option_rom(image: bytes, vendor: int, device: int) -> bytes:
    """An expansion ROM with one EFI driver, uncompressed, for a PCI device."""
    structure = 0x1C
    blocks = -(-(ROM_HEADER + len(image)) // _BLOCK)
    rom = bytearray(blocks * _BLOCK)
    struct.pack_into("<HHIHHH", rom, 0, 0xAA55, blocks, 0x0EF1, BOOT_DRIVER, _X86_64, 0)
    struct.pack_into("<HH", rom, 0x16, ROM_HEADER, structure)
    struct.pack_into("<4sHHHHB", rom, structure, b"PCIR", vendor, device, 0, 0x18, 3)
    struct.pack_into("<HHBB", rom, structure + 0x10, blocks, 0, 3, 0x80)  # EFI, the last image
    rom[ROM_HEADER : ROM_HEADER + len(image)] = image
    return bytes(rom)


def _headers(subsystem: int) -> bytes:
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", _X86_64, 2, 0, 0, 0, 0xF0, 0x206)
    optional = struct.pack("<HBBIIIII", 0x20B, 14, 0, _TEXT_SIZE, _ALIGNMENT, 0, _PAGE, _PAGE)
    optional += struct.pack(
        "<QIIHHHHHHIIIIHHQQQQII",
        *(0, _PAGE, _ALIGNMENT, 0, 0, 0, 0, 0, 0, 0, 3 * _PAGE, _TEXT_AT, 0, subsystem, 0),
        *(0x10000, 0x10000, 0x10000, 0x10000, 0, 16),
    )
    for directory in range(16):
        place = (2 * _PAGE, 12) if directory == 5 else (0, 0)  # base relocations
        optional += struct.pack("<II", *place)
    sections = b""
    for name, size, address, raw, at, flags in (
        (b".text", _TEXT_SIZE, _PAGE, _TEXT_SIZE, _TEXT_AT, 0x60000020),
        (b".reloc", 12, 2 * _PAGE, _ALIGNMENT, _RELOCATIONS_AT, 0x42000040),
    ):
        sections += struct.pack("<8sIIIIIIHHI", name, size, address, raw, at, 0, 0, 0, 0, flags)
    return dos + coff + optional + sections
