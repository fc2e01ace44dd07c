"""A machine without firmware of its own between the host's tables and our kernel.

A firmware would make the boot parameters (the kernel's Documentation/arch/x86/boot.rst) and the
list of memory (e820), and would move ACPI tables. Here all of it lies in memory before the machine
starts, byte for byte as a case wants it: the kernel's 16-bit code is replaced by a few instructions
that enter the kernel at its 32-bit entry point. SeaBIOS only assigns PCI resources.
"""

from __future__ import annotations

import contextlib
import re
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from confide.host.runner.qemu import Tools
from tests.fuzz.lying import Liar

MEMORY = 256 << 20
# Where things lie, in bytes from the start of memory. Tables are kept from other uses by the e820.
PARAMETERS, COMMAND_LINE, INITRD, TABLES = 0xC000000, 0xC001000, 0xC010000, 0xE000000
TABLES_SIZE = 16 << 20
USABLE, RESERVED, ACPI = 1, 2, 3  # kinds of memory in an e820 entry
BOOTED = "<the program in the initrd runs>"
POLL_SECONDS = 0.05

_SETUP_AT = 0x10000  # where QEMU puts the 16-bit code
_ENTRY = 0x200  # and where it enters it, from the start of the file
_HEADER = 0x1F1
_PROTECTED = 0x100000
_OWN_LINE = (
    "console=ttyS0 earlyprintk=ttyS0 panic=0 oops=panic kasan.fault=panic nokaslr no_timer_check "
    "tsc=reliable"
)

Memory = Sequence[tuple[int, int, int]]  # address, size, kind


@dataclass(frozen=True)
class Inputs:
    """What the host gives one machine.

    Attributes:
        tables: pieces of memory: address to bytes.
        rsdp: the address of the root of the ACPI tables.
        e820: the memory that the kernel is told of, 128 entries at most.
        arguments: further arguments of QEMU.
        liar: a virtio device whose host lies.
    """

    tables: dict[int, bytes]
    rsdp: int
    e820: Memory
    arguments: tuple[str, ...] = ()
    liar: Liar | None = None


@dataclass(frozen=True)
class Said:
    """What the machine wrote to its serial port, and whether it was still running then."""

    text: str
    running: bool
    seconds: float


def plain_memory() -> list[tuple[int, int, int]]:
    """What a firmware says of this machine."""
    return [
        (0, 0x9F000, USABLE),
        (0xF0000, 0x10000, RESERVED),
        (_PROTECTED, TABLES - _PROTECTED, USABLE),
        (TABLES, TABLES_SIZE, ACPI),
        (TABLES + TABLES_SIZE, MEMORY - TABLES - TABLES_SIZE, USABLE),
        (0xB0000000, 0x10000000, RESERVED),
        (0xFEFFC000, 0x4000, RESERVED),
    ]


def kernel_image(vmlinuz: bytes) -> bytes:
    """The kernel with 16-bit code that goes straight to the 32-bit entry point."""
    start = _ENTRY + 2 + vmlinuz[_ENTRY + 1]  # where the first jump leads, behind the header
    code = bytearray(
        b"\xfa"  # cli
        b"\x66\x2e\x0f\x01\x16\0\0"  # lgdt cs:[descriptor]
        b"\x0f\x20\xc0\x0c\x01\x0f\x22\xc0"  # cr0 |= 1: protected mode
        b"\x66\xea\0\0\0\0\x10\0"  # jump to the next instruction, as 32-bit code
        b"\xb8\x18\0\0\0\x8e\xd8\x8e\xc0\x8e\xd0"  # data segments
        + (b"\xbe" + struct.pack("<I", PARAMETERS))  # esi = boot parameters
        + (b"\xb8" + struct.pack("<I", _PROTECTED) + b"\xff\xe0")  # jump to the kernel
    )
    table = start + len(code)
    struct.pack_into("<H", code, 6, table + 32 - _ENTRY)
    struct.pack_into("<I", code, 18, _SETUP_AT + start + 24)
    flat_code, flat_data = 0x00CF9A000000FFFF, 0x00CF92000000FFFF
    code += struct.pack("<4QHI", 0, 0, flat_code, flat_data, 31, _SETUP_AT + table)
    return vmlinuz[:start] + bytes(code) + vmlinuz[start + len(code) :]


def parameters(vmlinuz: bytes, inputs: Inputs, initrd: int) -> bytes:
    """The page of boot parameters: 4,096 bytes; `initrd` is that file's size."""
    page = bytearray(4096)
    header = vmlinuz[_HEADER : _ENTRY + 2 + vmlinuz[_ENTRY + 1]]
    page[_HEADER : _HEADER + len(header)] = header
    struct.pack_into("<Q", page, 0x70, inputs.rsdp)
    page[0x1E8] = len(inputs.e820)
    page[0x210] = 0xFF  # a boot loader without a number
    struct.pack_into("<III", page, 0x214, _PROTECTED, INITRD, initrd)
    struct.pack_into("<I", page, 0x228, COMMAND_LINE)
    for number, entry in enumerate(inputs.e820):
        struct.pack_into("<QQI", page, 0x2D0 + 20 * number, *entry)
    return bytes(page)


def initrd() -> bytes:
    """An archive with one program, /init: switches the network card on and waits for a second.

    Then it says BOOTED and waits for ever. Without a card it says so at once.
    """
    card = b"eth0".ljust(16, b"\0") + struct.pack("<H22x", 0x101)  # up, takes each packet
    second = struct.pack("<QQ", 1, 0)
    text = BOOTED.encode() + b"\n"
    code = (
        b"\xb8\x29\0\0\0\xbf\x02\0\0\0\xbe\x02\0\0\0\x31\xd2\x0f\x05"  # socket(IPv4, datagrams)
        b"\x89\xc7\xbe\x14\x89\0\0"  # ioctl(it, set flags,
        + (b"\x48\x8d\x15" + struct.pack("<i", 60))  # the card's,
        + b"\xb8\x10\0\0\0\x0f\x05\x85\xc0\x75\x10"  # ); if that worked:
        + (
            b"\x48\x8d\x3d" + struct.pack("<i", 82) + b"\x31\xf6\xb8\x23\0\0\0\x0f\x05"
        )  # sleep(a second)
        + b"\xb8\x01\0\0\0\xbf\x01\0\0\0"  # write(1,
        + (b"\x48\x8d\x35" + struct.pack("<i", 72))  # the text,
        + (b"\xba" + struct.pack("<I", len(text)) + b"\x0f\x05")  # its length)
        + (b"\xb8\x22\0\0\0\x0f\x05\xeb\xf7" + card + second)  # pause() without end
    )
    base, head = 0x400000, 64 + 56
    size = head + len(code) + len(text)
    program = (
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + head, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 4096)
        + (code + text)
    )
    return _record("init", program, 0o100755) + _record("TRAILER!!!", b"", 0)


def _record(name: str, data: bytes, mode: int) -> bytes:
    """One entry of a "newc" cpio archive."""
    fields = (1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


class RefusedError(Exception):
    """QEMU does not make such a machine; the message is QEMU's."""


class Bench:
    """Boots one kernel again and again, in one folder."""

    def __init__(self, tools: Tools, vmlinuz: Path, folder: Path) -> None:
        self._tools, self._folder = tools, folder
        self._vmlinuz = vmlinuz.read_bytes()
        self._initrd = initrd()
        (folder / "kernel").write_bytes(kernel_image(self._vmlinuz))

    def arguments(self, inputs: Inputs) -> list[str]:
        """QEMU's arguments for one machine; what it needs is written to the folder."""
        loaded = {
            PARAMETERS: parameters(self._vmlinuz, inputs, len(self._initrd)),
            COMMAND_LINE: _OWN_LINE.encode() + b"\0",
            INITRD: self._initrd,
            **inputs.tables,
        }
        argv = [
            *(str(self._tools.qemu), "-nodefaults", "-no-user-config", "-no-reboot"),
            *("-display", "none", "-accel", "tcg", "-cpu", "max", "-smp", "2"),
            *("-machine", "q35,smm=off", "-m", str(MEMORY >> 20)),
            *("-serial", f"file:{self._folder / 'serial.log'}"),
            *("-kernel", str(self._folder / "kernel")),
        ]
        for address, data in loaded.items():
            path = self._folder / f"{address:x}.bin"
            path.write_bytes(data)
            argv += ["-device", f"loader,file={path},addr={address:#x},force-raw=on"]
        return [*argv, *inputs.arguments]

    def boot(self, inputs: Inputs, until: str, seconds: float) -> Said:
        """Runs the machine until its words match a regular expression, it ends, or time is over.

        Raises:
            RefusedError: QEMU makes no such machine.
        """
        serial, log = self._folder / "serial.log", self._folder / "qemu.log"
        serial.unlink(missing_ok=True)
        begin = time.monotonic()
        with contextlib.ExitStack() as stack:
            argv = self.arguments(inputs)
            if inputs.liar:
                argv += stack.enter_context(inputs.liar.serve(self._folder / "socket", MEMORY))
            errors = stack.enter_context(log.open("wb"))
            process = subprocess.Popen(argv, stderr=errors)
            stack.callback(process.wait)
            stack.callback(process.kill)
            while (ended := process.poll()) is None:
                text = _read(serial)
                if re.search(until, text) or time.monotonic() > begin + seconds:
                    time.sleep(4 * POLL_SECONDS)
                    break
                time.sleep(POLL_SECONDS)
        if ended:
            raise RefusedError(log.read_text())
        return Said(_read(serial), ended is None, time.monotonic() - begin)


def _read(serial: Path) -> str:
    data = serial.read_bytes() if serial.exists() else b""
    return data.decode("utf-8", "replace").replace("\r", "")
