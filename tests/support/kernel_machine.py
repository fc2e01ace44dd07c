"""A kernel with an image's initrd and no disk, and ACPI tables of a hostile host's.

SeaBIOS starts it, in seconds. What is shown is the kernel's own: it gets its tables from any
firmware in the same form. An initrd that finds no layer says so and ends, so a boot that went well
ends there.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import fw_cfg

from confide.host.runner.qemu import Tools
from measure.tdx.acpi import RSDP, TABLES
from tests.support import firmware_machine
from tests.support.qemu_acpi import ADD_CHECKSUM, ADD_POINTER, CHECKSUM_AT, list_tables

UP = "the command line names 0 layers"
PANIC = "Kernel panic - not syncing: "
# The kernel speaks from its first moment.
COMMAND_LINE = "console=ttyS0 earlyprintk=ttyS0,115200 panic=-1"
NEVER = r"(?!)"  # matches nothing
LOADER = "etc/table-loader"
SECONDS = 120
MEMORY_MIB = 512
COMMAND_SIZE, NAME_SIZE = 128, 56
LENGTH_AT, RSDT_HEADER = 4, 36


@dataclass(frozen=True)
class Kernel:
    """An image's kernel and initrd, and the emulator."""

    tools: Tools
    folder: Path

    def boot(self, run_dir: Path, *extra: str, line: str = COMMAND_LINE) -> str:
        """What the machine says until it ends, which it must do by itself."""
        given = [*self._payload(line), *extra]
        said = firmware_machine.run(self.tools, run_dir, given, NEVER, SECONDS, MEMORY_MIB)
        assert said.ended, said.text
        return said.text.replace("\r", "")

    def _payload(self, line: str) -> list[str]:
        boot = self.folder / "boot"
        payload = ["-kernel", str(boot / "linux"), "-initrd", str(boot / "initrd")]
        return [*payload, "-append", line]

    def tables(self, run_dir: Path) -> HostTables:
        """What QEMU describes this machine with."""
        console = run_dir / "genuine.log"
        argv = firmware_machine.command(self.tools, console, MEMORY_MIB)
        with fw_cfg.run(
            [*argv, *self._payload(COMMAND_LINE)],
            console=console,
            until=b"Linux version",
            memory=MEMORY_MIB << 20,
            seconds=SECONDS,
        ) as machine:
            items = machine.files()
            return HostTables(*(items[name] for name in (LOADER, RSDP, TABLES)))


@dataclass(frozen=True)
class HostTables:
    """A machine's tables before the firmware places them, and the script for that.

    Attributes:
        loader: commands of 128 bytes: where pointers and checksums go.
        rsdp, tables: the tables, without checksums.
    """

    loader: bytes
    rsdp: bytes
    tables: bytes

    def place(self, signature: bytes) -> tuple[int, int]:
        """The offset and size of a table."""
        return dict(list_tables(self.tables))[signature]

    def with_bytes(self, signature: bytes, at: int, data: bytes) -> HostTables:
        """Other bytes in a table. Its checksum is made when the firmware places it."""
        start = self.place(signature)[0] + at
        tables = self.tables[:start] + data + self.tables[start + len(data) :]
        return HostTables(self.loader, self.rsdp, tables)

    def longer(self, signature: bytes, size: int) -> HostTables:
        """With a table made longer by zeros. It goes behind the others; what names it follows."""
        start, old = self.place(signature)
        end = max(place + used for _, (place, used) in list_tables(self.tables))
        moved = bytearray(self.tables[start : start + old].ljust(size, b"\0"))
        struct.pack_into("<I", moved, LENGTH_AT, size)
        tables = bytearray(self.tables)
        tables[end : end + size] = moved
        loader = bytearray(self.loader)
        rsdt, rsdt_size = self.place(b"RSDT")
        for at in range(rsdt + RSDT_HEADER, rsdt + rsdt_size, 4):
            if tables[at : at + 4] == struct.pack("<I", start):
                struct.pack_into("<I", tables, at, end)
        for at in range(0, len(loader), COMMAND_SIZE):
            kind, offset = struct.unpack_from("<I", loader, at)[0], at + 4 + NAME_SIZE
            if kind == ADD_POINTER:
                offset += NAME_SIZE
                (place,) = struct.unpack_from("<I", loader, offset)
                if start <= place < start + old:
                    struct.pack_into("<I", loader, offset, place - start + end)
            elif kind == ADD_CHECKSUM and struct.unpack_from("<I", loader, offset + 4)[0] == start:
                struct.pack_into("<3I", loader, offset, end + CHECKSUM_AT, end, size)
        return HostTables(bytes(loader), self.rsdp, bytes(tables))

    def without_pointer(self, signature: bytes, at: int) -> HostTables:
        """With 0 in place of a table's 4-byte pointer to another one."""
        where = struct.pack("<I", self.place(signature)[0] + at)
        commands = [
            self.loader[start : start + COMMAND_SIZE]
            for start in range(0, len(self.loader), COMMAND_SIZE)
        ]
        kind = ADD_POINTER.to_bytes(4, "little")
        kept = [
            command if command[:4] != kind or command[116:120] != where else bytes(COMMAND_SIZE)
            for command in commands
        ]
        assert kept != commands
        loader = b"".join(kept)
        return HostTables(loader, self.rsdp, self.tables).with_bytes(signature, at, bytes(4))

    def arguments(self, folder: Path) -> Sequence[str]:
        """QEMU's arguments with which a machine gets these tables and no other."""
        files = {LOADER: self.loader, RSDP: self.rsdp, TABLES: self.tables}
        words = ["-machine", "acpi=off"]  # the board's own, which would have the same names
        for name, data in files.items():
            path = folder / name.replace("/", "-")
            path.write_bytes(data)
            words += ["-fw_cfg", f"name={name},file={path}"]
        return words
