"""Read-only FAT12/16/32: just enough to read the files of an EFI system partition.

Source: Microsoft, "FAT: General Overview of On-Disk Format" 1.03. A file goes by its long name
where it has one, else by its 8.3 name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice

from measure.errors import FormatError
from measure.reader import Reader

# In all directories together, each of 32 bytes; deleted ones and parts of long names count.
MAX_ENTRIES = 4096

_ATTRIBUTE_VOLUME = 0x08
_ATTRIBUTE_DIRECTORY = 0x10
_ATTRIBUTE_LONG_NAME = 0x0F


@dataclass(frozen=True)
class File:
    """A file: its path with `/` between the parts, its first cluster and size in bytes."""

    path: str
    cluster: int
    size: int


class Volume:
    """A FAT file system in `data[start:end]`.

    Raises:
        FormatError: from the constructor and all methods, when the file system is damaged.
    """

    def __init__(self, data: bytes | memoryview, file: str, start: int, end: int) -> None:
        self._data, self._file, self._start, self._end = data, file, start, end
        boot = Reader(data, file, start, end)
        boot.skip(11, "boot sector")
        sector = boot.u16("bytes per sector")
        per_cluster = boot.u8("sectors per cluster")
        reserved = boot.u16("reserved sectors")
        fats = boot.u8("number of FATs")
        root_entries = boot.u16("root entries")
        total = boot.u16("total sectors")
        boot.skip(1, "media")
        fat_sectors = boot.u16("sectors per FAT")
        boot.skip(8, "geometry")
        total = total or boot.u32("total sectors")
        boot = Reader(data, file, start + 36, end)
        fat_sectors = fat_sectors or boot.u32("sectors per FAT")
        boot.skip(44 - boot.offset + start, "FAT32 fields")
        root_cluster = boot.u32("root cluster")

        powers_of_two = sector in (512, 1024, 2048, 4096) and per_cluster.bit_count() == 1
        if not powers_of_two or not reserved or fats not in (1, 2) or not fat_sectors:
            raise FormatError(
                "not a FAT file system",
                file=file,
                offset=start,
                seen=f"{sector} bytes per sector, {per_cluster} sectors per cluster, "
                f"{fats} FATs of {fat_sectors} sectors",
            )
        self._fat_start = start + reserved * sector
        self._fat_end = self._fat_start + fat_sectors * sector
        self._root_start = self._fat_start + fats * fat_sectors * sector
        root_sectors = -(-root_entries * 32 // sector)
        self._clusters_start = self._root_start + root_sectors * sector
        self._cluster_size = per_cluster * sector
        used = self._clusters_start - start
        if total * sector > end - start or used >= total * sector:
            raise FormatError(
                "the FAT file system is larger than its partition",
                file=file,
                offset=start,
                expected=f"at most {end - start} bytes",
                seen=f"{total * sector} bytes",
            )
        # The number of clusters alone decides the width of FAT entries (section 3.5).
        self._cluster_count = (total * sector - used) // self._cluster_size
        self.bits = 12 if self._cluster_count < 4085 else 16 if self._cluster_count < 65525 else 32
        self._root_cluster = root_cluster if self.bits == 32 else 0
        self._root_size = root_entries * 32
        if (self.bits == 32) != (root_entries == 0):
            raise FormatError(
                f"the FAT{self.bits} file system has {root_entries} root entries",
                file=file,
                offset=start,
            )

    def files(self) -> list[File]:
        """All files, directory by directory."""
        found: list[File] = []
        waiting = [("", self._root())]
        number = count(1)
        while waiting:
            prefix, directory = waiting.pop()
            for name, attributes, cluster, size in self._entries(directory, number):
                if attributes & _ATTRIBUTE_DIRECTORY:
                    waiting.append((f"{prefix}{name}/", self._chain(cluster)))
                else:
                    found.append(File(prefix + name, cluster, size))
        return found

    def read(self, file: File) -> bytes:
        """The content of a file."""
        if not file.size:
            return b""
        clusters = -(-file.size // self._cluster_size)
        if clusters > self._cluster_count:
            raise FormatError(
                f"{file.path} is larger than its file system",
                file=self._file,
                expected=f"at most {self._cluster_count * self._cluster_size} bytes",
                seen=f"{file.size} bytes",
            )
        parts = list(islice(self._chain(file.cluster), clusters + 1))
        if len(parts) != clusters:
            raise FormatError(
                f"{file.path} is truncated, or its cluster chain too long",
                file=self._file,
                expected=f"{clusters} clusters",
                seen=f"{len(parts)} or more" if len(parts) > clusters else str(len(parts)),
            )
        return b"".join(parts)[: file.size]

    def _root(self) -> Iterable[bytes | memoryview]:
        if self.bits == 32:
            return self._chain(self._root_cluster)
        root = Reader(self._data, self._file, self._root_start, self._end)
        return [root.take(self._root_size, "root directory")]

    def _slots(
        self, directory: Iterable[bytes | memoryview], number: Iterator[int]
    ) -> Iterator[bytes]:
        """The 32-byte entries up to the end mark; `number` counts those of all directories."""
        for cluster in directory:
            for offset in range(0, len(cluster) - 31, 32):
                if next(number) > MAX_ENTRIES:
                    raise FormatError(
                        "too many files, or directories in a loop",
                        file=self._file,
                        expected=f"at most {MAX_ENTRIES} entries",
                    )
                slot = bytes(cluster[offset : offset + 32])
                if slot[0] == 0:
                    return
                yield slot

    def _entries(
        self, directory: Iterable[bytes | memoryview], number: Iterator[int]
    ) -> Iterator[tuple[str, int, int, int]]:
        """Name, attributes, first cluster and size of each file and directory in one."""
        long_name: dict[int, str] = {}
        for entry in self._slots(directory, number):
            attributes = entry[11]
            if entry[0] == 0xE5:
                long_name = {}
            elif attributes == _ATTRIBUTE_LONG_NAME:
                long_name[entry[0] & 0x3F] = self._long_part(entry)
            else:
                name = "".join(long_name[i] for i in sorted(long_name)) or self._short(entry)
                long_name = {}
                if attributes & _ATTRIBUTE_VOLUME or name in (".", ".."):
                    continue
                high, low, size = struct.unpack("<20xH4xHI", entry)
                yield name, attributes, low | (high << 16 if self.bits == 32 else 0), size

    def _long_part(self, entry: bytes) -> str:
        try:
            text = (entry[1:11] + entry[14:26] + entry[28:32]).decode("utf-16-le")
        except UnicodeDecodeError:
            raise FormatError("a long file name is malformed", file=self._file) from None
        return text.split("\0", 1)[0]

    def _short(self, entry: bytes) -> str:
        try:
            base, extension = entry[:8].decode("ascii"), entry[8:11].decode("ascii")
        except UnicodeDecodeError:
            raise FormatError("a file name is not ASCII", file=self._file) from None
        return base.rstrip() + ("." + extension.rstrip() if extension.strip() else "")

    def _chain(self, cluster: int) -> Iterator[memoryview]:
        """The clusters of a chain, each read when it is asked for."""
        view = memoryview(self._data)
        seen: set[int] = set()
        while True:
            if not 2 <= cluster < self._cluster_count + 2 or cluster in seen:
                raise FormatError(
                    "a cluster chain is damaged",
                    file=self._file,
                    expected=f"clusters 2 to {self._cluster_count + 1}, each once",
                    seen=f"cluster {cluster}",
                )
            seen.add(cluster)
            start = self._clusters_start + (cluster - 2) * self._cluster_size
            yield view[start : start + self._cluster_size]
            cluster = self._next(cluster)
            if cluster >= {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}[self.bits]:
                return

    def _next(self, cluster: int) -> int:
        offset = self._fat_start + cluster * self.bits // 8
        width = 4 if self.bits == 32 else 2
        value = Reader(self._data, self._file, min(offset, self._fat_end), self._fat_end).number(
            width, "FAT entry"
        )
        if self.bits == 12:
            return value >> 4 if cluster & 1 else value & 0xFFF
        return value & 0x0FFFFFFF if self.bits == 32 else value
