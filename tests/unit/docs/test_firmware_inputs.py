"""docs/firmware-inputs.md has every name by which the firmware asks the host for something."""

from __future__ import annotations

import re
from pathlib import Path

import edit_firmware
import pytest

PAGE = Path(__file__).parents[3] / "docs/firmware-inputs.md"
# A fw_cfg file's name, as a string of C within code or data.
NAME = re.compile(rb"(?<![\w/.])((?:etc|opt)/[\w./%-]{2,}|bootorder)\0")
MACHINES = {"S": "OVMF.amdsev.fd", "T": "OVMF.tdx.fd", "V": "OVMF_CODE_4M.fd"}


@pytest.mark.parametrize("machine", MACHINES)
def test_every_name_has_a_row(firmware: Path, machine: str) -> None:
    name = MACHINES[machine]
    image = (firmware / name).read_bytes()
    drivers = edit_firmware.unpack(image, edit_firmware.find_packed(image, name), name)
    asked = {match.decode() for match in NAME.findall(image + drivers)}
    assert len(asked) > 15
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    named = {
        found
        for row in rows
        if machine in row.split(" | ")[1]
        for found in re.findall("`([^`]+)`", row)
    }
    assert asked <= named
