"""Run a virtual machine up to its kernel, and read what its firmware was given and made.

QEMU describes the machine to the firmware in fw_cfg items (docs/specs/fw_cfg.rst of QEMU). It
makes the ACPI tables when the firmware first asks for them, after the firmware has assigned PCI
resources, and keeps them. So the firmware has to run; then the machine is stopped and the items are
read as a guest would read them, by DMA, through QEMU's test protocol (qtest.rst in its docs).
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FILE_DIRECTORY = 0x19
DMA_PORT = 0x514  # 8 bytes, big-endian: the address of a command
READ_SELECTED = 1 << 3 | 1 << 1  # select the item in the upper 16 bits, then read
SCRATCH = 1 << 20  # guest memory that nobody needs any more
COMMAND = struct.Struct(">IIQ")  # control, length, address
FILE = struct.Struct(">IHH56s")  # size, key, reserved, name
ANCHOR = b"_SM_"  # SMBIOS 2.x entry point (DSP0134, 5.2.1): 31 bytes whose sum is 0
ANCHOR_SIZE = 31
FIRMWARE_MEMORY = 128 << 20  # bytes below the end of low memory; firmware allocates from there
LOW_MEMORY = 2 << 30  # what a q35 machine has at most below 4 GiB, when it has 2.75 GiB or more
SPLIT_AT = 2816 << 20


class GuestError(Exception):
    """The machine did not come as far as it should, or left something unexpected."""


@dataclass(frozen=True)
class Files:
    """The fw_cfg items of one machine.

    Attributes:
        directory: name to (key, size in bytes).
    """

    machine: Stopped
    directory: dict[str, tuple[int, int]]

    def __getitem__(self, name: str) -> bytes:
        key, size = self.directory[name]
        return self.machine.item(key, size)


class Stopped:
    """A machine that ran and stands still; `memory` is its size in bytes."""

    def __init__(self, qtest: socket.socket, qmp: socket.socket, memory: int) -> None:
        self._qtest, self._qmp = qtest.makefile("rwb"), qmp.makefile("rwb")
        self.memory = memory
        self._qmp.readline()  # greeting
        self._execute("qmp_capabilities")
        self._execute("stop")

    def item(self, key: int, size: int) -> bytes:
        """The first `size` bytes of a fw_cfg item."""
        if size == 0:
            return b""
        data = SCRATCH + COMMAND.size
        command = COMMAND.pack(key << 16 | READ_SELECTED, size, data)
        self._test(f"write {SCRATCH:#x} {len(command)} 0x{command.hex()}")
        for port, word in ((DMA_PORT, SCRATCH >> 32), (DMA_PORT + 4, SCRATCH & 0xFFFFFFFF)):
            swapped = int.from_bytes(word.to_bytes(4, "big"), "little")
            self._test(f"outl {port:#x} {swapped:#x}")
        if any(self._read(SCRATCH, 4)):  # the control word: 0 when done
            raise GuestError(f"fw_cfg item {key:#x} of {size} bytes cannot be read")
        return self._read(data, size)

    def files(self) -> Files:
        """The items that have a name."""
        count = int.from_bytes(self.item(FILE_DIRECTORY, 4), "big")
        entries = FILE.iter_unpack(self.item(FILE_DIRECTORY, 4 + count * FILE.size)[4:])
        named = {name.rstrip(b"\0").decode(): (key, size) for size, key, _, name in entries}
        return Files(self, named)

    def smbios(self) -> bytes:
        """The SMBIOS structures as the firmware left them, its own additions included."""
        low = self.memory if self.memory < SPLIT_AT else LOW_MEMORY
        start = max(low - FIRMWARE_MEMORY, 0)
        with tempfile.NamedTemporaryFile() as file:
            self._execute("pmemsave", val=start, size=low - start, filename=file.name)
            memory = Path(file.name).read_bytes()
        found = list(_anchors(memory))
        if len(found) != 1:
            raise GuestError(f"expected one SMBIOS entry point in memory, found {len(found)}")
        size, address = struct.unpack_from("<HI", found[0], 22)
        return memory[address - start :][:size]

    def _test(self, command: str) -> list[str]:
        self._qtest.write(command.encode() + b"\n")
        self._qtest.flush()
        status, *words = self._qtest.readline().decode().split() or ["no answer"]
        if status != "OK":
            raise GuestError(f"QEMU refused {command.split()[0]!r}: {status} {' '.join(words)}")
        return words

    def _read(self, address: int, size: int) -> bytes:
        return bytes.fromhex(self._test(f"read {address:#x} {size:#x}")[0].removeprefix("0x"))

    def _execute(self, command: str, **arguments: object) -> None:
        request = json.dumps({"execute": command, "arguments": arguments})
        self._qmp.write(request.encode() + b"\n")
        self._qmp.flush()
        while "return" not in (answer := json.loads(self._qmp.readline() or "{}")):
            if "event" not in answer:
                raise GuestError(f"QEMU refused {command}: {answer or 'no answer'}")


def _anchors(memory: bytes) -> Iterator[bytes]:
    """SMBIOS entry points, which lie at multiples of 16."""
    at = memory.find(ANCHOR)
    while at >= 0:
        entry = memory[at : at + ANCHOR_SIZE]
        if at % 16 == 0 and len(entry) == ANCHOR_SIZE and sum(entry) % 256 == 0:
            yield entry
        at = memory.find(ANCHOR, at + 1)


@contextlib.contextmanager
def run(
    argv: Sequence[str],
    *,
    console: Path,
    until: bytes,
    memory: int,
    seconds: float,
    pass_fds: Sequence[int] = (),
) -> Iterator[Stopped]:
    """Run QEMU until the file `console` holds `until`; then the machine stands still.

    `memory` is the machine's, in bytes. Raises GuestError with the end of the console.
    """
    with contextlib.ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(2)]
        for end in (end for pair in pairs for end in pair):
            stack.enter_context(end)
        (qtest, qtest_end), (qmp, qmp_end) = pairs
        options = ["-chardev", f"socket,id=qtest,fd={qtest_end.fileno()}"]
        options += ["-qtest", "chardev:qtest", "-qtest-log", "none"]
        options += ["-chardev", f"socket,id=qmp,fd={qmp_end.fileno()}"]
        options += ["-mon", "chardev=qmp,mode=control"]
        ends = (qtest_end.fileno(), qmp_end.fileno())
        process = subprocess.Popen([*argv, *options], pass_fds=(*ends, *pass_fds))
        stack.callback(process.wait)
        stack.callback(process.kill)
        qtest_end.close()
        qmp_end.close()
        deadline = time.monotonic() + seconds
        while until not in (said := console.read_bytes() if console.exists() else b""):
            ended = process.poll()
            if ended is not None or time.monotonic() > deadline:
                why = f"in {seconds:.0f} s" if ended is None else f"before QEMU ended ({ended})"
                raise GuestError(
                    f"the machine did not say {until.decode()!r} {why}; its console ends with:\n"
                    f"{said[-1000:].decode(errors='replace')}"
                )
            time.sleep(0.05)
        yield Stopped(qtest, qmp, memory)
