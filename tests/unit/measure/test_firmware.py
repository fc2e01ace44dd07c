"""OVMF's firmware file taken apart: a synthetic one with the same structure."""

from __future__ import annotations

import struct
import time
import uuid

import pytest

from measure import firmware
from measure.errors import FormatError, MeasureError, UnsupportedError
from tests.support.measurement import builders

SECURE_BOOT = uuid.UUID("f0e6a44f-7195-41c3-ac64-54f202cd0a21")


def test_version_and_volumes() -> None:
    measured = firmware.measure(builders.firmware(), "fw")
    assert measured.version == builders.VERSION.encode("utf-16-le") + b"\0\0"
    # The PEI volume is measured with the variable that the PEI core has set by then.
    core_at = measured.pei_volume.index(b"MZ")
    at = core_at + builders.TIMER_IN_FILE
    assert measured.pei_volume[at : at + 4] == struct.pack("<I", 0x608)
    before = measured.pei_volume[:at] + bytes(4) + measured.pei_volume[at + 4 :]
    assert before[core_at:].startswith(builders.pei_core())
    assert measured.dxe_volume[40:44] == b"_FVH"


@pytest.mark.parametrize(
    "core",
    [
        builders.pei_core(instructions=0),
        builders.pei_core(instructions=2),
        builders.pei_core(initial=b"\1\0\0\0"),
        builders.pe([(".text", b"\xc7\x05" + struct.pack("<iI", -100, 0x608)), (".data", b"x")]),
    ],
    ids=["no instruction", "two instructions", "not zero", "not in .data"],
)
def test_doubt_about_the_timer_variable_is_an_error(core: bytes) -> None:
    with pytest.raises(UnsupportedError, match="timer variable"):
        firmware.measure(builders.firmware(core=core), "fw")


@pytest.mark.parametrize("strings", [[], ["2025.02", "other text"], ["abc"]])
def test_doubt_about_the_version_is_an_error(strings: list[str]) -> None:
    with pytest.raises(UnsupportedError, match="version string"):
        firmware.measure(builders.firmware(strings=strings), "fw")


def test_looking_for_the_version_takes_linear_time() -> None:
    # A string's middle looks like its beginning; this one is without an end (U+0100 is 00 01).
    endless = "x" * 1_000_000 + "\u0100"
    code = builders.firmware(strings=[builders.VERSION, endless])
    started = time.process_time()
    assert firmware.measure(code, "fw").version == builders.VERSION.encode("utf-16-le") + b"\0\0"
    assert time.process_time() - started < 2


def test_an_error_shows_the_beginning_of_a_long_string() -> None:
    code = builders.firmware(strings=[builders.VERSION, "x" * 1_000_000])
    with pytest.raises(UnsupportedError, match=f"'{builders.VERSION}', '{'x' * 40}'$"):
        firmware.measure(code, "fw")


def test_secure_boot_firmware_is_refused() -> None:
    driver = builders.ffs_file(SECURE_BOOT, 0x07, [builders.ffs_section(0x15, b"S\0\0\0")])
    with pytest.raises(UnsupportedError, match="Secure Boot"):
        firmware.measure(builders.firmware(dxe_files=[driver]), "fw")


def test_a_second_pei_core_is_refused() -> None:
    core = builders.ffs_file(uuid.UUID(int=9), 0x04, [])
    with pytest.raises(UnsupportedError, match="PEI core"):
        firmware.measure(builders.firmware(pei_files=[core]), "fw")


def altered(offset: int, value: bytes) -> bytes:
    """The firmware with bytes of its outer volume's header changed, and its checksum right."""
    data = bytearray(builders.firmware())
    data[offset : offset + len(value)] = value
    data[50:52] = bytes(2)
    size = min(int.from_bytes(data[48:50], "little"), len(data)) & ~1
    words = struct.unpack_from(f"<{size // 2}H", data)
    struct.pack_into("<H", data, 50, -sum(words) & 0xFFFF)
    return bytes(data)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (16, b"\0", "no firmware volume"),
        (32, b"\xff" * 8, "volume is truncated"),
        (40, b"_FVX", "no firmware volume"),
        (48, b"\xff\xff", "volume header is truncated"),
        (72 + 18, b"\x0c", "exactly one a volume image, seen 0"),
        (72 + 19, b"\x01", "invalid firmware file size"),
        (72 + 20, b"\x17\0\0", "invalid firmware file size"),
        (72 + 20, b"\xff\xff\x7f", "firmware file is truncated"),
        (96, b"\x03\0\0", "invalid section size"),
        (96, b"\xff\xff\x7f", "outside the input"),
        (96 + 20, b"\x04\0", "invalid data offset"),
        (96 + 20, b"\xff\xff", "invalid data offset"),
        (96 + 4, b"\0", "exactly one an LZMA section, seen 0"),
    ],
)
def test_damaged_volume(offset: int, value: bytes, message: str) -> None:
    with pytest.raises(MeasureError, match=message):
        firmware.measure(altered(offset, value), "fw")


def test_unchanged_volume_passes_the_same_alteration() -> None:
    assert altered(40, b"_FVH") == builders.firmware()


def test_bad_volume_checksum() -> None:
    data = bytearray(builders.firmware())
    data[0] ^= 1
    with pytest.raises(FormatError, match="checksum is wrong"):
        firmware.measure(bytes(data), "fw")


def test_a_third_packed_volume_is_refused() -> None:
    extra = builders.ffs_section(0x17, builders.volume([]))
    with pytest.raises(UnsupportedError, match="two packed volumes, seen 3"):
        firmware.measure(builders.firmware(packed_after=extra), "fw")


def test_many_empty_sections_are_refused_early() -> None:
    empty = builders.ffs_section(0x19, b"")
    code = builders.firmware(packed_after=empty * (32 << 20 >> 2))
    started = time.process_time()
    with pytest.raises(FormatError, match="too many firmware sections; expected at most 4096"):
        firmware.measure(code, "fw")
    assert time.process_time() - started < 5


def test_damaged_compression() -> None:
    data = bytearray(builders.firmware())
    data[200] ^= 0xFF
    with pytest.raises(MeasureError):
        firmware.measure(bytes(data), "fw")


def test_too_large() -> None:
    with pytest.raises(FormatError, match="too large"):
        firmware.measure(bytes(firmware.MAX_FIRMWARE + 1), "fw")


def test_decompression_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firmware, "MAX_UNPACKED", 100)
    with pytest.raises(FormatError, match="too large"):
        firmware.measure(builders.firmware(), "fw")
