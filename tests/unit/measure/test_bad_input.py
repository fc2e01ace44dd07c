"""Bad disks and firmware on the command line: one line that names file, place and expectation.

Never a wrong digest: nothing is written or printed.
"""

from __future__ import annotations

import struct
import uuid
from pathlib import Path

import pytest

from measure import __main__ as cli
from measure import gpt
from tests.support.measurement import builders

OTHER = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
SECTION_TABLE = 0x40 + 24 + 240


def overlapping() -> bytes:
    """A UKI whose second section lies within its first."""
    data = bytearray(builders.uki())
    first = struct.unpack_from("<I", data, SECTION_TABLE + 20)[0]
    struct.pack_into("<I", data, SECTION_TABLE + 40 + 20, first + 8)
    return bytes(data)


def disk_with(files: dict[str, bytes]) -> bytes:
    return builders.disk([("ESP", gpt.ESP_TYPE, builders.fat(files))])


GOOD_DISK, GOOD_FIRMWARE = builders.bootable_disk(), builders.firmware()
# what is wrong: disk, firmware, and what the error has to say
CASES: dict[str, tuple[bytes, bytes, tuple[str, ...]]] = {
    "no partition table": (bytes(1 << 20), GOOD_FIRMWARE,
        ("disk.raw at offset 0x200", "expected EFI PART")),
    "truncated disk": (GOOD_DISK[: len(GOOD_DISK) // 2], GOOD_FIRMWARE, ("disk.raw", "expected")),
    "no system partition": (builders.disk([("data", OTHER, b"x")]), GOOD_FIRMWARE,
        ("disk.raw", "EFI system partition", "expected 1, seen 0")),
    "no UKI": (disk_with({}), GOOD_FIRMWARE,
        ("disk.raw", "expected EFI/BOOT/BOOTX64.EFI, seen none")),
    "another program": (disk_with({"EFI/BOOT/GRUBX64.EFI": b"MZ"}), GOOD_FIRMWARE,
        ("expected EFI/BOOT/BOOTX64.EFI, seen EFI/BOOT/GRUBX64.EFI",)),
    "not a program": (disk_with({"EFI/BOOT/BOOTX64.EFI": b"#!/bin/sh"}), GOOD_FIRMWARE,
        ("disk.raw (EFI/BOOT/BOOTX64.EFI) at offset 0x0", "expected MZ")),
    "not a UKI": (disk_with({"EFI/BOOT/BOOTX64.EFI": builders.pe([(".text", b"x")])}),
        GOOD_FIRMWARE, ("(EFI/BOOT/BOOTX64.EFI)", "expected systemd-stub 252, 257, 262")),
    "overlapping sections": (disk_with({"EFI/BOOT/BOOTX64.EFI": overlapping()}), GOOD_FIRMWARE,
        ("(EFI/BOOT/BOOTX64.EFI) at offset 0x", "overlaps", "expected within 0x")),
    "truncated firmware": (GOOD_DISK, GOOD_FIRMWARE[:-100],
        ("code.fd at offset 0x0", "volume is truncated", "bytes, seen")),
    "foreign firmware": (GOOD_DISK, b"\x55\xaa" * 4096, ("code.fd at offset 0x0", "expected _FVH")),
    "empty firmware": (GOOD_DISK, b"", ("code.fd at offset 0x0", "expected 16 bytes")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_clear_error(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk, code, texts = CASES[name]
    (tmp_path / "disk.raw").write_bytes(disk)
    (tmp_path / "code.fd").write_bytes(code)
    inputs = ["--disk", str(tmp_path / "disk.raw"), "--firmware", str(tmp_path / "code.fd")]
    output = tmp_path / "m.json"
    for command in (["image", *inputs, "-o", str(output)], ["pcrs", *inputs]):
        assert cli.main(command) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1, printed
        for text in texts:
            assert text in printed.err
    assert not output.exists()
