"""Direct boot: what a kernel is given that QEMU loads (-kernel, -initrd, -append) and OVMF starts.

Sources: edk2, OvmfPkg/Library/GenericQemuLoadImageLib (the command line); QEMU up to 9.x,
hw/i386/x86.c, x86_load_linux() (the setup header); Linux, Documentation/arch/x86/boot.rst (its
fields).
"""

from __future__ import annotations

import re

from measure.errors import FormatError, UnsupportedError

# Since this release the firmware puts its own word in front of the command line, not behind it.
INITRD_WORD_FIRST = (2025, 8)
INITRD_WORD = "initrd=initrd"
_RELEASE = re.compile(r"(\d{4})\.(\d{2})(?!\d)")

# Where QEMU puts the parts of a kernel in guest memory.
_REAL_MODE, _COMMAND_LINE = 0x10000, 0x20000
_ACPI_DATA_SIZE = 0x28000
_HEADER_END = 0x230


def edk2_release(version: str, file: str) -> tuple[int, int]:
    """Year and month of the edk2 release that a Debian firmware's version string begins with.

    Raises:
        UnsupportedError: it begins with something else.
    """
    match = _RELEASE.match(version)
    if match is None:
        raise UnsupportedError(
            "the firmware's release is unknown, so what it does to the command line is, too",
            file=file,
            expected="a version string like 2025.02-8",
            seen=repr(version[:40]),
        )
    return int(match[1]), int(match[2])


def load_options(command_line: str, release: tuple[int, int]) -> str:
    """The command line that OVMF hands to a kernel with an initrd.

    Args:
        command_line: what was given with -append.
        release: of edk2, as (year, month).
    """
    words = (INITRD_WORD, command_line)
    return " ".join(words if release >= INITRD_WORD_FIRST else reversed(words))


def rewritten_kernel(kernel: bytes, initrd_size: int, memory: int, file: str) -> bytes:
    """The kernel as firmware sees it when QEMU before 10 loads it for a machine without SEV.

    QEMU acts as a boot loader and fills in the setup header, so the image's digest is another one;
    and it depends on the initrd's size and, below 2 GiB, on the machine's memory.

    Args:
        kernel: a bzImage of boot protocol 2.02 or later.
        initrd_size: of -initrd, in bytes.
        memory: of the machine below 4 GiB, in bytes.
        file: the name of `kernel` in errors.

    Raises:
        FormatError: not such a kernel, or the initrd does not fit.
    """
    if len(kernel) < _HEADER_END or kernel[0x202:0x206] != b"HdrS":
        raise FormatError("not a bzImage", file=file, offset=0x202, expected="HdrS")
    highest = int.from_bytes(kernel[0x22C:0x230], "little")
    top = min(highest, memory - _ACPI_DATA_SIZE - 1)
    address = (top - initrd_size) & ~0xFFF
    if address < 0:
        raise FormatError(
            "the initrd does not fit into memory",
            file=file,
            expected=f"at most {max(top, 0)} bytes",
            seen=f"{initrd_size} bytes",
        )
    patched = bytearray(kernel)
    patched[0x210] = 0xB0  # loader: QEMU
    patched[0x211] |= 0x80  # the heap's end is given
    patched[0x218:0x21C] = address.to_bytes(4, "little")
    patched[0x21C:0x220] = initrd_size.to_bytes(4, "little")
    patched[0x224:0x226] = (_COMMAND_LINE - _REAL_MODE - 0x200).to_bytes(2, "little")
    patched[0x228:0x22C] = _COMMAND_LINE.to_bytes(4, "little")
    return bytes(patched)
