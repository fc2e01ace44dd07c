"""OVMF's firmware file taken apart: a synthetic one with the same structure."""

from __future__ import annotations

import struct
import uuid

import pytest
from measurement import builders

from measure import firmware
from measure.errors import FormatError, MeasureError, UnsupportedError

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


def test_secure_boot_firmware_is_refused() -> None:
    driver = builders.ffs_file(SECURE_BOOT, 0x07, [builders.ffs_section(0x15, b"S\0\0\0")])
    with pytest.raises(UnsupportedError, match="Secure Boot"):
        firmware.measure(builders.firmware(dxe_files=[driver]), "fw")


def test_a_second_pei_core_is_refused() -> None:
    core = builders.ffs_file(uuid.UUID(int=9), 0x04, [])
    with pytest.raises(UnsupportedError, match="PEI core"):
        firmware.measure(builders.firmware(pei_files=[core]), "fw")


@pytest.mark.parametrize("offset", [16, 32, 40, 48, 72 + 20])
def test_damaged_volume(offset: int) -> None:
    data = bytearray(builders.firmware())
    data[offset] ^= 0xFF
    with pytest.raises(MeasureError):
        firmware.measure(bytes(data), "fw")


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
