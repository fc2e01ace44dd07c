"""Tell an ELF64 program or library where its loader and its libraries lie, without moving anything.

Every byte that is mapped stays where it is. The interpreter is only read by the kernel, from the
file: its string goes to the end of the file. The library path is one dynamic entry and a string in
the padding after a segment. (System V ABI, "Program Header", "Dynamic Section".)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NULL, DT_STRTAB, DT_RPATH, DT_DEBUG, DT_RUNPATH = 0, 5, 15, 21, 29
PAGE = 4096


class ElfError(Exception):
    """The file has no room for the change, or is not what it should be."""


@dataclass
class Segment:
    """A program header: where it stands in the file, and the fields needed here."""

    at: int
    kind: int
    offset: int
    address: int
    file_size: int
    memory_size: int


class Elf:
    """One ELF64 little-endian file, changed in memory."""

    def __init__(self, data: bytes) -> None:
        if data[:6] != b"\x7fELF\x02\x01":
            raise ElfError("not a 64-bit little-endian ELF file")
        self.data = bytearray(data)
        start, size, count = (
            struct.unpack_from("<Q", data, 32)[0],
            *struct.unpack_from("<HH", data, 54),
        )
        self.segments = []
        for at in range(start, start + size * count, size):
            kind, _, offset, address, _, *sizes = struct.unpack_from("<IIQQQQQ", data, at)
            self.segments.append(Segment(at, kind, offset, address, *sizes))

    def segment(self, kind: int) -> Segment | None:
        """The first segment of this kind."""
        return next((segment for segment in self.segments if segment.kind == kind), None)

    @property
    def is_program(self) -> bool:
        """Whether it is started, not loaded: it names an interpreter."""
        return self.segment(PT_INTERP) is not None

    def dynamic(self) -> list[tuple[int, int, int]]:
        """(position in the file, tag, value) of every dynamic entry, spare ones included."""
        segment = self.segment(PT_DYNAMIC)
        if segment is None:
            return []
        places = range(segment.offset, segment.offset + segment.file_size, 16)
        return [(at, *struct.unpack_from("<QQ", self.data, at)) for at in places]

    @property
    def has_library_path(self) -> bool:
        """Whether it names folders to look for libraries in."""
        return any(tag in (DT_RPATH, DT_RUNPATH) for _, tag, _ in self.dynamic())

    def set_interpreter(self, path: str) -> None:
        """Let the kernel start it with this loader."""
        segment = self.segment(PT_INTERP)
        if segment is None:
            raise ElfError("not a program: it has no interpreter")
        value = path.encode() + b"\0"
        struct.pack_into("<Q", self.data, segment.at + 8, len(self.data))
        struct.pack_into("<QQ", self.data, segment.at + 32, len(value), len(value))
        self.data += value

    def set_library_path(self, path: str) -> None:
        """Make `path` its DT_RPATH: asked before LD_LIBRARY_PATH, and for its libraries too."""
        entries = self.dynamic()
        value = path.encode() + b"\0"
        strings = next(value for _, tag, value in entries if tag == DT_STRTAB)
        offset = (self._place(value) - strings) % 2**64
        struct.pack_into("<QQ", self.data, self._slot(entries), DT_RPATH, offset)

    @staticmethod
    def _slot(entries: list[tuple[int, int, int]]) -> int:
        """Position of the entry to become DT_RPATH: the old one, a spare one, the debugger's."""
        for wanted in (DT_RPATH, DT_RUNPATH):
            for at, tag, _ in entries:
                if tag == wanted:
                    return at
        end = next(index for index, entry in enumerate(entries) if entry[1] == DT_NULL)
        if end + 1 < len(entries):
            return entries[end][0]  # the next one ends the table
        for at, tag, _ in entries:
            if tag == DT_DEBUG:
                return at
        raise ElfError("no spare dynamic entry")

    def _place(self, value: bytes) -> int:
        """Put a string into the padding after a segment; return its address."""
        loads = [segment for segment in self.segments if segment.kind == PT_LOAD]
        for home in loads:
            at = home.offset + home.file_size
            ends = [segment.offset for segment in loads if segment.offset >= at]
            limit = min([*ends, (at + PAGE - 1) // PAGE * PAGE])
            free = at + len(value) <= limit and not any(self.data[at : at + len(value)])
            # A segment that is larger in memory than in the file goes on with zeros.
            if free and home.memory_size == home.file_size:
                self.data[at : at + len(value)] = value
                size = home.file_size + len(value)
                struct.pack_into("<QQ", self.data, home.at + 32, size, size)
                return home.address + home.file_size
        raise ElfError(f"no room for {len(value)} bytes after any segment")


def relocate(file: Path, loader: Path, library_path: str) -> None:
    """Point a program, or a library that names folders, at our loader and our folders."""
    if file.is_symlink() or file.read_bytes()[:4] != b"\x7fELF":
        return
    elf = Elf(file.read_bytes())
    if elf.is_program and file != loader:
        elf.set_interpreter(str(loader))
    if elf.is_program or elf.has_library_path:
        if elf.dynamic():
            elf.set_library_path(library_path)
        file.write_bytes(elf.data)
