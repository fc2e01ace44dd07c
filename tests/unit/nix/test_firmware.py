"""The TDX firmware gets a configuration volume without keys, or is refused as not the known one."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import build_firmware
import pytest
from edit_firmware import FirmwareError

from measure import ovmf

VOLUME_SIZE = 0x1000
SIZE = 0x4000
BEHIND_TABLE = 32


def volume(fill: bytes = b"\xff") -> bytes:
    header = bytes(32) + struct.pack("<Q", VOLUME_SIZE) + b"_FVH"
    return header + fill * (VOLUME_SIZE - len(header))


def tdx_firmware(
    *, content: bytes | None = None, offset: int = 0, size: int = VOLUME_SIZE, attributes: int = 0
) -> bytes:
    """An image with a table and TDX metadata of one CFV and one BFV section, otherwise zeros."""
    sections = [(offset, size, 0, size, 1, attributes), (VOLUME_SIZE, 0x2000, 0, 0x2000, 0, 1)]
    packed = b"".join(struct.pack("<IIQQII", *section) for section in sections)
    metadata = b"TDVF" + struct.pack("<III", 16 + len(packed), 1, len(sections)) + packed
    at = SIZE - 0x400
    entry = struct.pack("<IH", SIZE - at, 4 + 18) + ovmf.TDX_METADATA.bytes_le
    footer = struct.pack("<H", len(entry) + 18) + ovmf._FOOTER.bytes_le
    image = bytearray(SIZE)
    image[:VOLUME_SIZE] = content or volume(b"\xee")
    image[at : at + len(metadata)] = metadata
    table = entry + footer
    image[SIZE - BEHIND_TABLE - len(table) : SIZE - BEHIND_TABLE] = table
    return bytes(image)


def test_nothing_but_the_volume_changes() -> None:
    image = tdx_firmware()
    changed = build_firmware.with_volume(image, volume(), "tdx")
    assert changed[:VOLUME_SIZE] == volume()
    assert changed[VOLUME_SIZE:] == image[VOLUME_SIZE:]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (tdx_firmware(attributes=1), "part of MRTD"),
        (tdx_firmware(offset=0x100), "expected one configuration volume"),
        (tdx_firmware(size=VOLUME_SIZE // 2), "expected one configuration volume"),
        (tdx_firmware(content=bytes(VOLUME_SIZE)), "does not begin with a firmware volume"),
    ],
)
def test_a_volume_elsewhere_or_measured_is_refused(image: bytes, message: str) -> None:
    with pytest.raises(FirmwareError, match=message):
        build_firmware.with_volume(image, volume(), "tdx")


def test_a_volume_of_another_size_is_refused() -> None:
    with pytest.raises(FirmwareError, match="expected one configuration volume"):
        build_firmware.with_volume(tdx_firmware(), volume() + b"\xff", "tdx")


def test_a_volume_longer_than_its_image_is_refused() -> None:
    with pytest.raises(FirmwareError, match="does not begin with a firmware volume"):
        build_firmware.volume(volume()[:-1], "amd")


def test_a_volume_with_variables_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the other image's volume holds, only the known one goes in."""
    folder = tmp_path / "cvm/usr/share/ovmf"
    folder.mkdir(parents=True)
    (folder / "OVMF.amdsev.fd").write_bytes(volume(b"\xfe"))
    (folder / "OVMF.inteltdx.ms.fd").write_bytes(tdx_firmware())
    (tmp_path / "code").write_bytes(b"vtpm")
    for name, path in (("out", "out"), ("vtpm", "code"), ("cvm", "cvm")):
        monkeypatch.setenv(name, str(tmp_path / path))
    with pytest.raises(FirmwareError, match="without variables"):
        build_firmware.main()


def test_what_the_flake_built(firmware: Path) -> None:
    """Both images are of one release, so one volume fits both; the code stays apart."""
    tdx, amd = ((firmware / f"OVMF.{name}.fd").read_bytes() for name in ("tdx", "amdsev"))
    size = len(build_firmware.volume(amd, "amd"))
    assert tdx[:size] == amd[:size]
    assert hashlib.sha384(tdx[:size]).hexdigest() == build_firmware.VIRGIN_VOLUME
    assert tdx[size:] != amd[size:]
    [section] = [s for s in ovmf.parse(tdx, "tdx").tdx_sections or () if s.type == 1]
    assert (section.data_offset, section.raw_size, section.attributes) == (0, size, 0)
