"""Edit Debian's firmware for SEV-SNP, so that it starts the measured kernel or nothing.

The hashes that an SEV-SNP launch measures cover kernel, initrd and command line. The firmware would
also start other programs of the host, which nothing measures. Each edit below ends one way to do
so; docs/decisions/105 says why. The drivers are in one file of the image, compressed with LZMA. It
is unpacked, edited, packed again and padded, so every size and address stays the same.

Sources: UEFI Platform Initialization specification 1.8, volume 3 (volumes, files, sections); UEFI
specification 2.10, 10.3 (device paths); LZMA SDK, lzma.txt (the header of 13 bytes).
"""

from __future__ import annotations

import lzma
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

LZMA_SECTION = uuid.UUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf")
GUID_DEFINED = 0x02  # section type
VOLUME_IMAGE = 0x0B  # file type
PAD = 0xF0  # file type
CHECKED_CONTENT = 0x40  # file attribute: the header has a checksum of the content
UNCHECKED = 0xAA  # what it has otherwise
FILE_HEADER = 24  # bytes: GUID, 2 checksums, type, attributes, u24 size, state
SECTION_HEADER = 24  # bytes: u24 size, type, GUID, u16 offset of the content, u16 attributes
LZMA_HEADER = 13  # bytes: properties, u32 dictionary, u64 size
MAX_UNPACKED = 64 << 20

KERNEL_FILES = uuid.UUID("1428f772-b64a-441e-b8c3-9ebdd7f893c7")  # the files that QEMU hands over
NOWHERE = uuid.UUID("6d5f9e0a-5c1b-4e57-9a53-0b2f0f6d9c41")  # our own; no device has this path
# Device path node of a file (18 bytes; the name's field has the size of the longest, "kernel")
SHIM = b"\x04\x04\x12\x00" + "shim".encode("utf-16-le").ljust(14, b"\0")


def _media(guid: uuid.UUID) -> bytes:
    """The device path node of a vendor's medium (20 bytes)."""
    return b"\x04\x03\x14\x00" + guid.bytes_le


class FirmwareError(Exception):
    """The package's firmware is not what this script knows."""


@dataclass(frozen=True)
class Edit:
    """Bytes that must be in the unpacked drivers exactly once, and what replaces them.

    Attributes:
        ends: what the firmware does no more.
        before, after: equally long.
    """

    ends: str
    before: bytes
    after: bytes


EDITS = (
    # The boot manager asks for the device path "files of QEMU, shim" before it asks for "kernel".
    # Under a GUID that no device has, it finds no shim.
    Edit(
        "starts a shim in place of the kernel",
        before=_media(KERNEL_FILES) + SHIM,
        after=_media(NOWHERE) + SHIM,
    ),
    # The boot manager, behind its attempt to start QEMU's kernel: UnloadImage(kernel), and then the
    # search for disks. Every failure of the attempt leads there. It stops instead.
    Edit(
        "starts a loader from a disk when the kernel returns or cannot be loaded",
        before=bytes.fromhex(
            "ff90e0000000"  # call [rax + UnloadImage]
            "4531ff"  # xor r15d, r15d
            "ba02000000"  # mov edx, 2
            "4889d9"  # mov rcx, rbx
            "31ff"  # xor edi, edi
        ),
        after=bytes.fromhex(
            "ff90e0000000"
            "fa"  # cli
            "f4"  # hlt
            "ebfc"  # jmp to cli
            "02000000"
            "4889d9"
            "31ff"
        ),
    ),
    # The PCI bus driver, ProcessOpRomImage: "if the device has no ROM, return". It always returns.
    Edit(
        "starts drivers from the option ROMs of PCI devices",
        before=bytes.fromhex(
            "4c8bafa8000000"  # mov r13, [rdi + RomImage]
            "4d85ed"  # test r13, r13
            "0f84b2000000"  # je to the return
        ),
        after=bytes.fromhex(
            "4c8bafa8000000"
            "4d85ed"
            "90"  # nop
            "e9b2000000"  # jmp to the return
        ),
    ),
)


def _u(data: bytes, offset: int, size: int) -> int:
    return int.from_bytes(data[offset : offset + size], "little")


@dataclass(frozen=True)
class Packed:
    """Where the compressed drivers are in an image: content[start:end], LZMA with its header."""

    start: int
    end: int


def find_packed(image: bytes, name: str) -> Packed:
    """The image's only section of LZMA, in a file without a checksum of its content.

    Raises:
        FirmwareError: There is none, or several, or it is not all that its file holds.
    """
    # The bytes before and behind the GUID: code that decompresses names it, too
    header = re.compile(
        b".{3}%c%b%b"
        % (GUID_DEFINED, re.escape(LZMA_SECTION.bytes_le), SECTION_HEADER.to_bytes(2, "little")),
        re.DOTALL,
    )
    found = [match.start() for match in header.finditer(image)]
    if len(found) != 1:
        raise FirmwareError(
            f"{name}: expected exactly one section compressed with LZMA; found {len(found)}"
        )
    [at] = found
    holder, size = at - FILE_HEADER, _u(image, at, 3)
    check_file(image, holder, name)
    if image[holder + 18] != VOLUME_IMAGE or _u(image, holder + 20, 3) != FILE_HEADER + size:
        raise FirmwareError(f"{name}: the section of LZMA is not all that its file holds")
    return Packed(at + SECTION_HEADER, at + size)


def check_file(data: bytes, at: int, name: str) -> None:
    """Refuses a file whose header is wrong, or would be wrong once its content has changed."""
    header = bytearray(data[at : at + FILE_HEADER])
    header[17] = header[23] = 0  # checksum of the content, state: not in the header's checksum
    if sum(header) & 0xFF or header[19] & CHECKED_CONTENT or data[at + 17] != UNCHECKED:
        raise FirmwareError(
            f"{name}: expected a file at {at:#x} with a valid header and no checksum of its content"
        )


def unpack(image: bytes, packed: Packed, name: str) -> bytes:
    """The drivers.

    Raises:
        FirmwareError: They are not LZMA, or not as long as their header says.
    """
    content = image[packed.start : packed.end]
    size = _u(content, 5, 8)
    try:
        decoder = lzma.LZMADecompressor(format=lzma.FORMAT_ALONE)
        unpacked = decoder.decompress(content, max_length=MAX_UNPACKED)
    except lzma.LZMAError as error:
        raise FirmwareError(f"{name}: the drivers cannot be unpacked: {error}") from error
    if len(unpacked) != size:
        raise FirmwareError(f"{name}: expected {size} bytes unpacked; seen {len(unpacked)}")
    return unpacked


def pack(drivers: bytes, like: bytes, name: str) -> bytes:
    """LZMA with the parameters of `like` and as long as it, by zeros behind its end.

    Raises:
        FirmwareError: The result is longer.
    """
    properties = like[0]  # (pb * 5 + lp) * 9 + lc
    rest, literal_context = divmod(properties, 9)
    position, literal_position = divmod(rest, 5)
    options = {
        "id": lzma.FILTER_LZMA1,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": _u(like, 1, 4),
        "lc": literal_context,
        "lp": literal_position,
        "pb": position,
    }
    stream = bytearray(lzma.compress(drivers, format=lzma.FORMAT_ALONE, filters=[options]))
    stream[5:LZMA_HEADER] = len(drivers).to_bytes(8, "little")  # Python writes "unknown"
    if len(stream) > len(like):
        raise FirmwareError(
            f"{name}: the edited drivers do not fit: expected at most {len(like)} bytes packed; "
            f"seen {len(stream)}"
        )
    return bytes(stream).ljust(len(like), b"\0")


def files(drivers: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of each file in each volume of the drivers."""
    mark = drivers.find(b"_FVH")
    while mark >= 0:
        volume = mark - 40
        end = volume + _u(drivers, volume + 32, 8)
        at = volume + _u(drivers, volume + 48, 2)
        while at + FILE_HEADER <= min(end, len(drivers)):
            size = _u(drivers, at + 20, 3)
            if size == 0xFFFFFF or size < FILE_HEADER:  # free space
                break
            if drivers[at + 18] != PAD:
                yield at, at + size
            at += -(-size // 8) * 8
        mark = drivers.find(b"_FVH", max(end, mark + 4))


def edit(drivers: bytes, edits: tuple[Edit, ...], name: str) -> bytes:
    """The drivers with all edits made.

    Raises:
        FirmwareError: An edit's bytes are not there exactly once, or not within one file whose
            header stays right.
    """
    edited = bytearray(drivers)
    held = list(files(drivers))
    for change in edits:
        if (count := drivers.count(change.before)) != 1:
            raise FirmwareError(
                f"{name}: expected exactly one place that {change.ends}; found {count}. This is "
                "not the firmware that was examined: examine it and correct nix/edit_firmware.py"
            )
        at = drivers.index(change.before)
        end = at + len(change.before)
        inside = [start for start, last in held if start < at and end <= last]
        if len(inside) != 1:
            raise FirmwareError(f"{name}: the place that {change.ends} is in no file")
        check_file(drivers, inside[0], name)
        edited[at:end] = change.after
    return bytes(edited)


def edited(image: bytes, name: str, edits: tuple[Edit, ...] = EDITS) -> bytes:
    """The image, of the same size, with edited drivers. The same input gives the same bytes.

    Raises:
        FirmwareError: The image is not what the edits were made for.
    """
    packed = find_packed(image, name)
    drivers = edit(unpack(image, packed, name), edits, name)
    content = pack(drivers, image[packed.start : packed.end], name)
    return image[: packed.start] + content + image[packed.end :]
