"""Command lines and initrds that firmware would measure as something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from measure.__main__ import main
from measure.errors import InputError
from measure.tdx.rtmr import DirectBoot
from tests.support.measurement import builders, ovmf_builders
from tests.support.measurement import tdx_builders as build

NOT_ASCII = [
    "quiet \u00e9",
    "\u20ac",
    "\udcff",
]  # the last is what a byte that is not UTF-8 becomes


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options of a direct boot, in a folder with its files."""
    monkeypatch.chdir(tmp_path)
    for name, data in {
        "linux": builders.pe([(".text", b"kernel")]),
        "initrd": b"initrd",
        "empty": b"",
        "snp.fd": ovmf_builders.image(),
        "tdx.fd": build.firmware(),
    }.items():
        Path(name).write_bytes(data)
    Path("machine").mkdir()
    for name, data in build.machine_files().items():
        Path("machine", name).write_bytes(data)
    return ["--kernel", "linux", "--initrd", "initrd", "--append", "quiet"]


SNP = [
    "snp", "--firmware", "snp.fd", "--guest-features", "1", "--vcpus", "1",
    "--vcpu-type", "EPYC-Milan",
]  # fmt: skip
TDX = [
    "tdx", "--firmware", "tdx.fd", "--machine", "machine", "--memory-mib", "2048",
    "--edk2", "2026.08", "--boot", "direct", "--page-order", "single-pass",
    "--attributes", "0x10000000", "--xfam", "0x602e7",
]  # fmt: skip


@pytest.mark.parametrize("command", [SNP, TDX], ids=["snp", "tdx"])
@pytest.mark.parametrize("line", NOT_ASCII)
def test_a_command_line_that_is_not_ascii(
    command: list[str], line: str, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, *parts]) == 0
    capsys.readouterr()
    assert main([*command, *parts[:-1], line]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"measure: invalid command line; expected ASCII, seen {line!a}\n"


def test_an_empty_initrd(parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Firmware then leaves out initrd=initrd, and the event of an initrd."""
    parts[3] = "empty"
    assert main([*TDX, *parts]) == 2
    assert "the initrd is empty" in capsys.readouterr().err
    with pytest.raises(InputError, match="the initrd is empty"):
        DirectBoot(b"kernel", b"", "quiet")
