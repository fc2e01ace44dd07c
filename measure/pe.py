"""PE/COFF: bounded parser, sections, and the Authenticode digest that firmware measures.

Sources: Microsoft PE format; "Windows Authenticode Portable Executable Signature Format"
(calculating the PE image hash); EDK2 measures the same range, without the padding to 8 bytes
that signing tools add (TCG PC Client Platform Firmware Profile, section 3.3.4.5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from measure.errors import FormatError
from measure.reader import Reader

MAX_SECTIONS = 96  # what the Windows loader accepts, and far above any UKI
SECURITY_DIRECTORY = 4
OPTIONAL_MAGIC = {0x10B: 92, 0x20B: 108}  # PE32 / PE32+: offset of NumberOfRvaAndSizes


@dataclass(frozen=True)
class Section:
    """One section header; all values in bytes, `raw_offset` from the start of the file."""

    name: str
    virtual_size: int
    virtual_address: int
    raw_offset: int
    raw_size: int


@dataclass(frozen=True)
class PeImage:
    """A parsed image.

    Attributes:
        data: the whole file.
        file: its name, for errors.
        headers_size: SizeOfHeaders.
        checksum_offset: where the 4-byte CheckSum is (not hashed).
        security_offset: where the 8-byte security directory entry is (not hashed), or None.
        certificate_size: bytes of the certificate table at the end of the file (not hashed).
    """

    data: bytes
    file: str
    sections: tuple[Section, ...]
    headers_size: int
    checksum_offset: int
    security_offset: int | None
    certificate_size: int

    def content(self, section: Section) -> bytes:
        """A section as it lies in memory: `virtual_size` bytes.

        Raises:
            FormatError: if the file holds fewer bytes than that (memory would be zero-filled,
                which no section that is read as data has).
        """
        if section.virtual_size > section.raw_size:
            raise FormatError(
                f"section {section.name} is larger in memory than in the file",
                file=self.file,
                offset=section.raw_offset,
                expected=f"at most {section.raw_size} bytes",
                seen=f"{section.virtual_size} bytes",
            )
        return self.data[section.raw_offset : section.raw_offset + section.virtual_size]

    def check_memory(self) -> None:
        """Checks that memory holds the headers and each section as the file does.

        A loader copies one section after the other. Where they overlap, a program that reads its
        own sections sees other bytes than the file has there.

        Raises:
            FormatError: a section that begins within the headers or another section.
        """
        free = self.headers_size
        for section in sorted(self.sections, key=lambda s: s.virtual_address):
            # Loaders take a virtual size of 0 for "as in the file".
            size = section.virtual_size or section.raw_size
            if not size:
                continue
            if section.virtual_address < free:
                raise FormatError(
                    f"section {section.name} overlaps something else in memory",
                    file=self.file,
                    offset=section.raw_offset,
                    expected=f"an address of {free:#x} or above",
                    seen=f"{section.virtual_address:#x}",
                )
            free = section.virtual_address + size

    def authenticode(self, algorithm: str = "sha256") -> bytes:
        """The Authenticode digest: everything but CheckSum, security entry and certificates."""
        state = hashlib.new(algorithm)
        view = memoryview(self.data)
        for start, end in self._hashed_ranges():
            state.update(view[start:end])
        return state.digest()

    def _hashed_ranges(self) -> Iterator[tuple[int, int]]:
        yield 0, self.checksum_offset
        after_checksum = self.checksum_offset + 4
        if self.security_offset is None:
            yield after_checksum, self.headers_size
        else:
            yield after_checksum, self.security_offset
            yield self.security_offset + 8, self.headers_size
        hashed = self.headers_size
        for section in sorted(self.sections, key=lambda s: s.raw_offset):
            if section.raw_size:
                yield section.raw_offset, section.raw_offset + section.raw_size
                hashed += section.raw_size
        # The format counts bytes, not offsets: with gaps between sections this differs from
        # "what follows the last section", and firmware does the same.
        yield hashed, len(self.data) - self.certificate_size


def parse(data: bytes, file: str) -> PeImage:
    """Parses a PE32 or PE32+ image.

    Raises:
        FormatError: truncated, out-of-bounds or overlapping parts, or not a PE image.
    """
    if data[:2] != b"MZ":
        raise FormatError("not a PE image", file=file, offset=0, expected="MZ", seen=str(data[:2]))
    pe_offset = Reader(data, file, min(0x3C, len(data))).u32("PE header offset")
    reader = Reader(data, file, min(pe_offset, len(data)))
    if reader.take(4, "PE signature") != b"PE\0\0":
        raise FormatError("not a PE image", file=file, offset=pe_offset, expected="PE signature")
    reader.skip(2, "machine")
    section_count = reader.u16("number of sections")
    reader.skip(12, "COFF header")
    optional_size = reader.u16("size of optional header")
    reader.skip(2, "characteristics")

    optional = Reader(data, file, reader.offset, reader.offset + optional_size)
    optional_start = optional.offset
    magic = optional.u16("optional header magic")
    if magic not in OPTIONAL_MAGIC:
        raise FormatError(
            "invalid optional header",
            file=file,
            offset=optional_start,
            expected="PE32 or PE32+",
            seen=f"{magic:#x}",
        )
    optional.skip(58, "optional header")
    headers_size = optional.u32("SizeOfHeaders")
    checksum_offset = optional.offset
    optional.skip(4, "CheckSum")
    optional.skip(OPTIONAL_MAGIC[magic] - 68, "optional header")
    directories = optional.u32("NumberOfRvaAndSizes")
    security_offset: int | None = None
    certificate_size = 0
    if directories > SECURITY_DIRECTORY:
        optional.skip(8 * SECURITY_DIRECTORY, "data directories")
        security_offset = optional.offset
        certificate_offset = optional.u32("certificate table offset")
        certificate_size = optional.u32("certificate table size")
        if certificate_size and certificate_offset + certificate_size != len(data):
            raise FormatError(
                "the certificate table is not at the end of the file",
                file=file,
                offset=security_offset,
                expected=f"end at {len(data):#x}",
                seen=f"{certificate_offset + certificate_size:#x}",
            )
    if section_count > MAX_SECTIONS:
        raise FormatError(
            "too many sections", file=file, expected=f"<= {MAX_SECTIONS}", seen=str(section_count)
        )
    reader.skip(optional_size, "optional header")
    sections = tuple(_section(reader) for _ in range(section_count))
    if not reader.offset <= headers_size <= len(data) - certificate_size:
        raise FormatError(
            "invalid SizeOfHeaders",
            file=file,
            offset=checksum_offset - 4,
            expected=f"{reader.offset:#x}..{len(data) - certificate_size:#x}",
            seen=f"{headers_size:#x}",
        )
    _check_layout(sections, headers_size, len(data) - certificate_size, file)
    return PeImage(
        data, file, sections, headers_size, checksum_offset, security_offset, certificate_size
    )


def _section(reader: Reader) -> Section:
    offset = reader.offset
    raw_name = reader.take(8, "section name").rstrip(b"\0")
    if not all(0x21 <= byte <= 0x7E for byte in raw_name):
        raise FormatError(
            "invalid section name", file=reader.file, offset=offset, seen=str(raw_name)
        )
    virtual_size = reader.u32("VirtualSize")
    virtual_address = reader.u32("VirtualAddress")
    raw_size = reader.u32("SizeOfRawData")
    raw_offset = reader.u32("PointerToRawData")
    reader.skip(16, "section header")
    return Section(raw_name.decode("ascii"), virtual_size, virtual_address, raw_offset, raw_size)


def _check_layout(sections: tuple[Section, ...], start: int, end: int, file: str) -> None:
    """Sections with data lie behind the headers, before the certificates, and do not overlap."""
    for section in sorted(sections, key=lambda s: s.raw_offset):
        if not section.raw_size:
            continue
        if section.raw_offset < start or section.raw_offset + section.raw_size > end:
            raise FormatError(
                f"section {section.name} overlaps something else or leaves the file",
                file=file,
                offset=section.raw_offset,
                expected=f"within {start:#x}..{end:#x}",
                seen=f"{section.raw_offset:#x}..{section.raw_offset + section.raw_size:#x}",
            )
        start = section.raw_offset + section.raw_size
