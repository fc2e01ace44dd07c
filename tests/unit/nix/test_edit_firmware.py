"""The edit of the SEV-SNP firmware: exactly what it names, or a refusal."""

from __future__ import annotations

import lzma
import struct
import uuid
from pathlib import Path

import edit_firmware
import pytest
from edit_firmware import EDITS, KERNEL_FILES, LZMA_SECTION, Edit, FirmwareError

BOOT_MANAGER = b"".join(b"\x90" * 40 + change.before for change in EDITS) + b"\x90" * 40
BROTLI_SECTION = uuid.UUID("3d532050-5cda-4fd0-879e-0f7f630d5afb")
OPTIONS = {"id": lzma.FILTER_LZMA1, "preset": 0, "dict_size": 1 << 24, "lc": 3, "lp": 0, "pb": 2}
SHIM = EDITS[0]
VOLUME_HEADER = 72


def file(kind: int, content: bytes, attributes: int = 0) -> bytes:
    """A file of a firmware volume: its header has a checksum of itself, none of its content."""
    header = bytearray(uuid.UUID(int=kind).bytes_le + bytes([0, 0, kind, attributes]))
    header += (len(content) + 24).to_bytes(3, "little") + b"\0"
    header[16] = -sum(header) & 0xFF
    header[17], header[23] = 0xAA, 0xF8
    return (bytes(header) + content).ljust(-(-(24 + len(content)) // 8) * 8, b"\xff")


def volume(*files: bytes) -> bytes:
    content = b"".join(files) + b"\xff" * 64
    header = bytes(32) + struct.pack("<Q4sIH", VOLUME_HEADER + len(content), b"_FVH", 0, 72)
    return header.ljust(VOLUME_HEADER, b"\0") + content


def packed(drivers: bytes) -> bytes:
    """LZMA, larger than need be, so that the same content with a GUID changed fits."""
    stream = bytearray(lzma.compress(drivers, format=lzma.FORMAT_ALONE, filters=[OPTIONS]))
    stream[5:13] = len(drivers).to_bytes(8, "little")
    return bytes(stream) + bytes(64)


def image(
    code: bytes = BOOT_MANAGER,
    *,
    drivers: bytes | None = None,
    content: bytes | None = None,
    compression: uuid.UUID = LZMA_SECTION,
    attributes: int = 0,
    times: int = 1,
) -> bytes:
    """A firmware image: one volume, in it one file, in it one compressed section of a volume."""
    if drivers is None:
        drivers = volume(file(0xF0, bytes(8)), file(7, code), file(7, b"another driver"))
    content = packed(drivers) if content is None else content
    section = (24 + len(content)).to_bytes(3, "little") + b"\x02" + compression.bytes_le
    section += struct.pack("<HH", 24, 1) + content
    code_that_unpacks = file(3, b"compares with " + LZMA_SECTION.bytes_le)
    return volume(*[file(0x0B, section, attributes)] * times, code_that_unpacks)


def drivers_of(firmware: bytes) -> bytes:
    place = edit_firmware.find_packed(firmware, "amd")
    return edit_firmware.unpack(firmware, place, "amd")


def test_the_edits_are_made_and_nothing_else_changes() -> None:
    before = image()
    after = edit_firmware.edited(before, "amd")
    place = edit_firmware.find_packed(before, "amd")
    assert edit_firmware.find_packed(after, "amd") == place
    assert after[: place.start] == before[: place.start]
    assert after[place.end :] == before[place.end :]
    expected = drivers_of(before)
    for change in EDITS:
        expected = expected.replace(change.before, change.after)
    assert drivers_of(after) == expected != drivers_of(before)


def test_the_same_input_gives_the_same_bytes() -> None:
    assert edit_firmware.edited(image(), "amd") == edit_firmware.edited(image(), "amd")


def test_a_firmware_that_was_edited_is_refused() -> None:
    with pytest.raises(FirmwareError, match=r"exactly one place that .* found 0"):
        edit_firmware.edited(edit_firmware.edited(image(), "amd"), "amd")


@pytest.mark.parametrize("change", EDITS, ids=lambda change: str(change.ends))
@pytest.mark.parametrize("count", [0, 2])
def test_each_place_must_be_there_exactly_once(change: Edit, count: int) -> None:
    code = BOOT_MANAGER.replace(change.before, change.before * count)
    with pytest.raises(FirmwareError, match=f"exactly one place that {change.ends}; found {count}"):
        edit_firmware.edited(image(code), "amd")


def test_edits_keep_the_length() -> None:
    for change in EDITS:
        assert len(change.before) == len(change.after)
        assert change.before != change.after


def test_a_kernel_s_path_is_no_shim_s() -> None:
    kernel = SHIM.before.replace("shim".encode("utf-16-le"), "kern".encode("utf-16-le"))
    after = edit_firmware.edited(image(BOOT_MANAGER + kernel), "amd")
    assert drivers_of(after).count(KERNEL_FILES.bytes_le) == 1


def test_drivers_that_do_not_fit_are_refused() -> None:
    drivers = drivers_of(image())
    whole = edit_firmware.pack(drivers, packed(drivers), "amd").rstrip(b"\0")
    with pytest.raises(FirmwareError, match="do not fit: expected at most"):
        edit_firmware.pack(drivers, whole[:-1], "amd")
    assert edit_firmware.pack(drivers, whole, "amd") == whole


@pytest.mark.parametrize(
    ("firmware", "message"),
    [
        (image(compression=BROTLI_SECTION), "exactly one section compressed with LZMA; found 0"),
        (image(times=2), "exactly one section compressed with LZMA; found 2"),
        (image(content=b"\xff" * 100), "cannot be unpacked|bytes unpacked"),
        (image(attributes=0x40), "no checksum of its content"),
        (image(drivers=BOOT_MANAGER), "is in no file"),
        (image(drivers=volume(file(7, BOOT_MANAGER, 0x40))), "no checksum of its content"),
        (image()[: len(image()) // 2], "is not all that its file holds|exactly one|unpacked"),
    ],
    ids=["brotli", "two", "damaged", "checked", "no-file", "checked-driver", "truncated"],
)
def test_another_firmware_is_refused(firmware: bytes, message: str) -> None:
    with pytest.raises(FirmwareError, match=message):
        edit_firmware.edited(firmware, "amd")


def test_a_wrong_length_is_refused() -> None:
    drivers = volume(file(7, BOOT_MANAGER))
    content = bytearray(packed(drivers))
    content[5:13] = (len(drivers) + 1).to_bytes(8, "little")
    with pytest.raises(FirmwareError, match=r"cannot be unpacked|bytes unpacked"):
        edit_firmware.edited(image(content=bytes(content)), "amd")


def test_what_the_flake_built(firmware: Path, debian_firmware: Path) -> None:
    """Between Debian's firmware and the flake's lie the edits and nothing else."""
    debian = (debian_firmware / "usr/share/ovmf/OVMF.amdsev.fd").read_bytes()
    ours = (firmware / "OVMF.amdsev.fd").read_bytes()
    place = edit_firmware.find_packed(debian, "debian")
    assert ours[: place.start] == debian[: place.start]
    assert ours[place.end :] == debian[place.end :]
    expected = drivers_of(debian)
    for change in EDITS:
        expected = expected.replace(change.before, change.after)
    assert drivers_of(ours) == expected
