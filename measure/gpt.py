"""GUID partition table: strict reader, and the event that firmware measures into PCR 5.

Sources: UEFI 2.10 section 5.3; the event: TCG PC Client Platform Firmware Profile 1.06,
section 10.2.6 (UEFI_GPT_DATA): the 92-byte header, a 64-bit count, and the used entries.
"""

from __future__ import annotations

import uuid
import zlib
from dataclasses import dataclass

from measure.errors import FormatError
from measure.reader import Reader

SECTOR = 512
HEADER_SIZE = 92
ENTRY_SIZE = 128
MAX_ENTRIES = 1024
ESP_TYPE = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")


@dataclass(frozen=True)
class Partition:
    """One used entry; `first` and `last` are sectors, both inclusive."""

    type: uuid.UUID
    id: uuid.UUID
    first: int
    last: int
    label: str
    raw: bytes

    @property
    def start(self) -> int:
        """First byte on the disk."""
        return self.first * SECTOR

    @property
    def end(self) -> int:
        """One past the last byte on the disk."""
        return (self.last + 1) * SECTOR


@dataclass(frozen=True)
class Table:
    """A partition table: the primary header's 92 bytes and the used entries in table order."""

    header: bytes
    partitions: tuple[Partition, ...]

    @property
    def event_data(self) -> bytes:
        """UEFI_GPT_DATA: what EV_EFI_GPT_EVENT logs, and whose digest is extended."""
        count = len(self.partitions).to_bytes(8, "little")
        return self.header + count + b"".join(p.raw for p in self.partitions)


@dataclass(frozen=True)
class _Header:
    raw: bytes
    alternate: int
    first_usable: int
    last_usable: int
    entries_sector: int
    entry_count: int
    entries_crc: int


def parse(disk: bytes | memoryview, file: str) -> Table:
    """Reads both copies of the table of a whole disk.

    Firmware repairs a table whose copies disagree, and measures what it made of it, so both copies
    have to be right.

    Raises:
        FormatError: anything that firmware would refuse or repair.
    """
    primary = _header(disk, 1, file)
    backup = _header(disk, primary.alternate, file)
    if primary.alternate != len(disk) // SECTOR - 1 or backup.alternate != 1:
        raise FormatError(
            "the backup partition table is not at the end of the disk",
            file=file,
            offset=SECTOR,
            expected=f"sector {len(disk) // SECTOR - 1}",
            seen=f"sector {primary.alternate}",
        )
    if (primary.entries_crc, primary.entry_count) != (backup.entries_crc, backup.entry_count):
        raise FormatError("the two copies of the partition table differ", file=file)
    entries = _entries(disk, primary, file)
    _entries(disk, backup, file)
    return Table(primary.raw, _partitions(entries, primary, file))


def _header(disk: bytes | memoryview, sector: int, file: str) -> _Header:
    start = sector * SECTOR
    raw = Reader(disk, file, min(start, len(disk))).take(HEADER_SIZE, "partition table header")
    reader = Reader(raw, file)
    signature = reader.take(8, "signature")
    revision, size, crc = reader.u32("revision"), reader.u32("size"), reader.u32("CRC")
    if signature != b"EFI PART" or revision != 0x10000 or size != HEADER_SIZE:
        raise FormatError(
            "no partition table header",
            file=file,
            offset=start,
            expected="EFI PART, revision 1.0, 92 bytes",
            seen=f"{signature!r}, revision {revision:#x}, {size} bytes",
        )
    computed = zlib.crc32(raw[:16] + bytes(4) + raw[20:])
    if crc != computed:
        raise FormatError(
            "the partition table header's CRC is wrong",
            file=file,
            offset=start,
            expected=f"{computed:#010x}",
            seen=f"{crc:#010x}",
        )
    reader.skip(4, "reserved")
    own, alternate = reader.u64("own sector"), reader.u64("alternate sector")
    first, last = reader.u64("first usable sector"), reader.u64("last usable sector")
    reader.skip(16, "disk GUID")
    entries_sector = reader.u64("entries' sector")
    entry_count, entry_size = reader.u32("number of entries"), reader.u32("entry size")
    if own != sector or entry_size != ENTRY_SIZE or not 1 <= entry_count <= MAX_ENTRIES:
        raise FormatError(
            "invalid partition table header",
            file=file,
            offset=start,
            expected=f"sector {sector}, 1 to {MAX_ENTRIES} entries of {ENTRY_SIZE} bytes",
            seen=f"sector {own}, {entry_count} entries of {entry_size} bytes",
        )
    return _Header(raw, alternate, first, last, entries_sector, entry_count, reader.u32("CRC"))


def _entries(disk: bytes | memoryview, header: _Header, file: str) -> bytes:
    start = header.entries_sector * SECTOR
    size = header.entry_count * ENTRY_SIZE
    entries = Reader(disk, file, min(start, len(disk))).take(size, "partition entries")
    if zlib.crc32(entries) != header.entries_crc:
        raise FormatError(
            "the partition entries' CRC is wrong",
            file=file,
            offset=start,
            expected=f"{header.entries_crc:#010x}",
            seen=f"{zlib.crc32(entries):#010x}",
        )
    return entries


def _partitions(entries: bytes, header: _Header, file: str) -> tuple[Partition, ...]:
    partitions = []
    for index in range(header.entry_count):
        raw = entries[index * ENTRY_SIZE : (index + 1) * ENTRY_SIZE]
        if raw[:16] == bytes(16):
            continue
        reader = Reader(raw, file, 32)
        first, last = reader.u64("first sector"), reader.u64("last sector")
        reader.skip(8, "attributes")
        try:
            label = reader.take(72, "label").decode("utf-16-le").rstrip("\0")
        except UnicodeDecodeError:
            raise FormatError(f"partition {index + 1} has an invalid label", file=file) from None
        if not header.first_usable <= first <= last <= header.last_usable:
            raise FormatError(
                f"partition {index + 1} lies outside the usable sectors",
                file=file,
                expected=f"{header.first_usable}..{header.last_usable}",
                seen=f"{first}..{last}",
            )
        kind, unique = uuid.UUID(bytes_le=raw[:16]), uuid.UUID(bytes_le=raw[16:32])
        partitions.append(Partition(kind, unique, first, last, label, raw))
    return tuple(partitions)
