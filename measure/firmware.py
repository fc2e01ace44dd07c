"""OVMF: what its firmware file alone adds to PCR 0.

Source: edk2 (stable202502). Tcg2Pei measures, in this order, the firmware version string and each
firmware volume that SEC unpacked from the flash: PEIFV, then DXEFV (TCG PC Client Platform Firmware
Profile 1.06, section 3.3.4.1). File formats: PI 1.8, volume 3 (FV, FFS, sections).

The volumes are hashed in RAM, and the PEI core runs in place and has by then set one of its own
variables: `mAcpiTimerIoAddr` of OVMF's BaseAcpiTimerLib. On the q35 machine that is I/O port
0x608. `_timer_variable` says how it is found; with any doubt there is no prediction.
"""

from __future__ import annotations

import lzma
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from measure import pe
from measure.errors import FormatError, UnsupportedError
from measure.reader import Reader

MAX_FIRMWARE = 64 << 20
MAX_UNPACKED = 64 << 20
MAX_FILES = 4096
MAX_SECTIONS = 4096  # of one file; OVMF's have at most 4

Q35_ACPI_TIMER_PORT = 0x608

_FFS2 = uuid.UUID("8c8ce578-8a3d-4f1c-9935-896185c32dd3")
_LZMA = uuid.UUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf")
_TCG2_PEI = uuid.UUID("a0c98b77-cba5-4bb8-993b-4af6ce33ece4")
_SECURE_BOOT_CONFIG = uuid.UUID("f0e6a44f-7195-41c3-ac64-54f202cd0a21")

# Neither part of the pattern gives back what it took, so that a search takes linear time.
_UTF16_STRING = re.compile(rb"(?<![\x20-\x7e]\x00)(?:[\x20-\x7e]\x00){4,}+\x00\x00")

_FILE_PEI_CORE, _FILE_DXE_CORE, _FILE_VOLUME = 0x04, 0x05, 0x0B
_SECTION_GUIDED, _SECTION_PE32, _SECTION_VOLUME = 0x02, 0x10, 0x17


@dataclass(frozen=True)
class Measured:
    """What PCR 0 gets before the separator: three inputs of SHA-256, in this order.

    Attributes:
        version: the version string, UTF-16LE with its NUL.
        pei_volume, dxe_volume: the unpacked volumes as they are in RAM when they are hashed.
    """

    version: bytes
    pei_volume: bytes
    dxe_volume: bytes


@dataclass(frozen=True)
class _File:
    guid: uuid.UUID
    type: int
    body_start: int
    end: int


@dataclass(frozen=True)
class _Section:
    type: int
    start: int
    end: int
    guid: uuid.UUID | None = None


def measure(flash: bytes, file: str) -> Measured:
    """Takes a firmware code file (`OVMF_CODE*.fd`) apart.

    Raises:
        FormatError: not a well-formed firmware volume.
        UnsupportedError: a firmware that is not built like OVMF without SMM.
    """
    if len(flash) > MAX_FIRMWARE:
        raise FormatError(
            "the firmware is too large",
            file=file,
            expected=f"at most {MAX_FIRMWARE} bytes",
            seen=f"{len(flash)} bytes",
        )
    unpacked = _unpack(flash, file)
    inner = f"{file} (unpacked)"
    sections = _sections(unpacked, 0, len(unpacked), inner)
    volumes = [unpacked[s.start : s.end] for s in sections if s.type == _SECTION_VOLUME]
    if len(volumes) != 2:
        raise UnsupportedError(
            "the firmware is not OVMF",
            file=file,
            expected="two packed volumes",
            seen=str(len(volumes)),
        )
    pei, dxe = volumes
    pei_files = list(_files(pei, f"{file} (PEIFV)"))
    dxe_files = list(_files(dxe, f"{file} (DXEFV)"))
    core = _only(pei_files, lambda f: f.type == _FILE_PEI_CORE, "a PEI core in PEIFV", file)
    _only(dxe_files, lambda f: f.type == _FILE_DXE_CORE, "a DXE core in DXEFV", file)
    if any(f.guid == _SECURE_BOOT_CONFIG for f in dxe_files):
        raise UnsupportedError(
            "the firmware is built with Secure Boot, whose registers are not predicted",
            file=file,
            expected="OVMF_CODE_4M.fd without Secure Boot",
        )
    tcg2 = _only(pei_files, lambda f: f.guid == _TCG2_PEI, "Tcg2Pei in PEIFV", file)
    version = _version(pei, tcg2, file)
    return Measured(version, _as_in_memory(pei, core, file), dxe)


def _unpack(flash: bytes, file: str) -> bytes:
    """The LZMA section of the first volume's only volume-image file."""
    holder = _only(
        list(_files(flash, file)), lambda f: f.type == _FILE_VOLUME, "a volume image", file
    )
    section = _only(
        _sections(flash, holder.body_start, holder.end, file),
        lambda s: s.guid == _LZMA,
        "an LZMA section",
        file,
    )
    decoder = lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=256 << 20)
    try:
        unpacked = decoder.decompress(flash[section.start : section.end], MAX_UNPACKED)
    except (lzma.LZMAError, MemoryError) as error:
        raise FormatError(
            f"the LZMA section is damaged: {error}", file=file, offset=section.start
        ) from None
    if not decoder.eof:
        raise FormatError(
            "the LZMA section is truncated or too large",
            file=file,
            offset=section.start,
            expected=f"at most {MAX_UNPACKED} bytes",
            seen=f"{len(unpacked)} bytes, no end",
        )
    return unpacked


def _files(data: bytes, file: str) -> Iterator[_File]:
    """The files of the firmware volume at the start of `data` (PI volume 3, 3.2.1 and 3.2.3)."""
    header = Reader(data, file)
    header.skip(16, "reset vector")
    filesystem = uuid.UUID(bytes_le=header.take(16, "file system GUID"))
    length = header.u64("volume length")
    signature = header.take(4, "signature")
    header.skip(4, "attributes")
    header_size = header.u16("header length")
    header.skip(2, "checksum")
    extension = header.u16("extension header offset")
    if signature != b"_FVH" or filesystem != _FFS2:
        raise FormatError(
            "no firmware volume",
            file=file,
            offset=0,
            expected=f"_FVH, {_FFS2}",
            seen=f"{signature!r}, {filesystem}",
        )
    words = Reader(data, file).take(header_size, "volume header")
    checksum = sum(int.from_bytes(words[i : i + 2], "little") for i in range(0, header_size, 2))
    if checksum & 0xFFFF:
        raise FormatError(
            "the firmware volume's checksum is wrong",
            file=file,
            offset=0,
            expected="a sum of 0",
            seen=f"{checksum & 0xFFFF:#x}",
        )
    if length > len(data):
        raise FormatError(
            "the firmware volume is truncated",
            file=file,
            offset=0,
            expected=f"{length} bytes",
            seen=f"{len(data)} bytes",
        )
    start = header_size
    if extension:
        reader = Reader(data, file, min(extension, length), length)
        reader.skip(16, "volume name")
        start = extension + reader.u32("extension header size")
    for _ in range(MAX_FILES):
        reader = Reader(data, file, min(-(-start // 8) * 8, length), length)
        offset = reader.offset
        if reader.remaining < 24 or data[offset : offset + 24] == b"\xff" * 24:
            return
        guid = uuid.UUID(bytes_le=reader.take(16, "file name"))
        reader.skip(2, "file checksum")
        kind = reader.u8("file type")
        attributes = reader.u8("file attributes")
        size = reader.number(3, "file size")
        if attributes & 1 or size < 24:
            raise FormatError(
                "invalid firmware file size", file=file, offset=offset, seen=f"{size:#x}"
            )
        reader.skip(1, "file state")
        reader.skip(size - 24, "firmware file")
        yield _File(guid, kind, offset + 24, offset + size)
        start = offset + size
    raise FormatError("too many firmware files", file=file, expected=f"<= {MAX_FILES}")


def _sections(data: bytes, start: int, end: int, file: str) -> list[_Section]:
    """The sections of a file or of an unpacked section (PI volume 3, 3.2.4)."""
    sections: list[_Section] = []
    reader = Reader(data, file, start, end)
    while reader.remaining >= 4:
        offset = reader.offset
        if len(sections) == MAX_SECTIONS:
            raise FormatError(
                "too many firmware sections",
                file=file,
                offset=offset,
                expected=f"at most {MAX_SECTIONS}",
            )
        size, kind = reader.number(3, "section size"), reader.u8("section type")
        if size == 0xFFFFFF:
            size = reader.u32("extended section size")
        header_size = reader.offset - offset
        if size < header_size:
            raise FormatError("invalid section size", file=file, offset=offset, seen=f"{size:#x}")
        body = Reader(data, file, reader.offset, reader.offset + min(size - header_size, end))
        reader.skip(size - header_size, "section")
        guid = None
        body_start = body.offset
        if kind == _SECTION_GUIDED:
            guid = uuid.UUID(bytes_le=body.take(16, "section GUID"))
            body_start = offset + body.u16("data offset")
        if not body.offset <= body_start <= offset + size:
            raise FormatError(
                "invalid data offset", file=file, offset=offset, seen=f"{body_start:#x}"
            )
        sections.append(_Section(kind, body_start, offset + size, guid))
        padding = -(reader.offset - start) % 4
        reader.skip(min(padding, reader.remaining), "padding")
    return sections


def _pe32(volume: bytes, holder: _File, file: str) -> tuple[int, pe.PeImage]:
    """The program in a firmware file, and its offset in the volume."""
    section = _only(
        _sections(volume, holder.body_start, holder.end, file),
        lambda s: s.type == _SECTION_PE32,
        f"a program in {holder.guid}",
        file,
    )
    return section.start, pe.parse(volume[section.start : section.end], f"{file} ({holder.guid})")


def _version(volume: bytes, tcg2: _File, file: str) -> bytes:
    """PcdFirmwareVersionString: the one UTF-16 string in Tcg2Pei, whose only use it is."""
    start, image = _pe32(volume, tcg2, file)
    found = set(_UTF16_STRING.findall(image.data))
    if len(found) != 1:
        raise UnsupportedError(
            "the firmware's version string is ambiguous",
            file=file,
            offset=start,
            expected="one UTF-16 string in Tcg2Pei",
            seen=", ".join(repr(s[:80].decode("utf-16-le").rstrip("\0")) for s in sorted(found)[:4])
            or "none",
        )
    return bytes(found.pop())


def _as_in_memory(volume: bytes, core: _File, file: str) -> bytes:
    """PEIFV with the variable that the PEI core sets before the volume is hashed."""
    start, image = _pe32(volume, core, file)
    at = start + _timer_variable(image, file)
    return volume[:at] + Q35_ACPI_TIMER_PORT.to_bytes(4, "little") + volume[at + 4 :]


def _timer_variable(core: pe.PeImage, file: str) -> int:
    """Offset of `mAcpiTimerIoAddr` in the PEI core's file.

    For one host bridge the library stores a constant, 0x608, so its code holds exactly one
    instruction `mov dword [rip+disp32], 0x608` (c7 05 disp32 08 06 00 00). Its target is the
    variable if it lies in .data and is zero. The core runs in place: file and memory offsets agree.
    """
    port = Q35_ACPI_TIMER_PORT.to_bytes(4, "little")
    pattern = re.compile(rb"\xc7\x05(.{4})" + re.escape(port), re.DOTALL)
    targets = {
        match.end() + int.from_bytes(match[1], "little", signed=True)
        for match in pattern.finditer(core.data)
    }
    writable = [s for s in core.sections if s.name == ".data"]
    if len(targets) == 1 and len(writable) == 1:
        (target,), (data,) = targets, writable
        inside = data.raw_offset <= target <= data.raw_offset + data.raw_size - 4
        if inside and core.data[target : target + 4] == bytes(4):
            return target
    raise UnsupportedError(
        "the PEI core's timer variable cannot be located, so PCR 0 cannot be predicted",
        file=file,
        expected="one instruction that sets a zero variable in .data to 0x608",
        seen=f"targets {sorted(hex(t) for t in targets)[:4]}",
    )


_T = TypeVar("_T")


def _only(items: Iterable[_T], wanted: Callable[[_T], bool], what: str, file: str) -> _T:
    """The one item that is wanted.

    Raises:
        UnsupportedError: none or several.
    """
    found = [item for item in items if wanted(item)]
    if len(found) != 1:
        raise UnsupportedError(
            "the firmware is not built as expected",
            file=file,
            expected=f"exactly one {what}",
            seen=str(len(found)),
        )
    return found[0]
