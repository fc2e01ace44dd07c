"""`measure tdx`: what it prints, and what it needs."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from measure import image
from measure.__main__ import main
from measure.pcr import Component
from measure.tdx import machine, rtmr, tdvf
from tests.support.measurement import builders
from tests.support.measurement import tdx_builders as build
from tests.support.measurement.tdx_shapes import BOOT_VARIABLES, DIRECT


def predicted(boot: rtmr.DirectBoot | image.DiskImage) -> rtmr.Prediction:
    described = machine.parse(build.machine_files(), "m")
    return rtmr.predict(DIRECT, tdvf.parse(build.firmware(), "fw"), described, boot)


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    folder = tmp_path / "machine"
    folder.mkdir()
    for file, data in build.machine_files().items():
        (folder / file).write_bytes(data)
    (tmp_path / "fw.fd").write_bytes(build.firmware())
    (tmp_path / "disk.raw").write_bytes(builders.bootable_disk())
    shape = "--memory-mib 2048 --edk2 2026.08 --page-order single-pass --attributes 0x10000000"
    return [
        "tdx", "--firmware", str(tmp_path / "fw.fd"), "--machine", str(folder),
        *shape.split(), "--xfam", "0x602e7",
    ]  # fmt: skip


def run(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(list(arguments))
    out, err = capsys.readouterr()
    return status, out, err


def test_command_for_a_disk(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = predicted(image.parse(builders.bootable_disk(), "disk"))
    arguments += ["--disk", str(tmp_path / "disk.raw"), "--boot", "direct"]
    status, out, _ = run([*arguments, "--json"], capsys)
    printed = json.loads(out)
    assert status == 0
    assert printed["mrtd"] == {o.value: v.hex() for o, v in expected.mrtd.items()}
    assert printed["rtmrs"] == {str(n): v.hex() for n, v in expected.rtmrs().items()}
    assert printed["attributes"] == "0x10000000"
    assert printed["zero"] == ["MROWNER", "MROWNERCONFIG"]
    assert "launch_binding" not in printed
    assert [e["digest"] for n in "0123" for e in printed["events"][n]] == [
        e.digest.hex() for n in range(4) for e in expected.of(n)
    ]
    status, out, _ = run(arguments, capsys)
    for value in (*expected.mrtd.values(), *expected.rtmrs().values()):
        assert value.hex() in out
    for text in ("0x10000000", "0x602e7", "MRCONFIGID", *rtmr.COVERS.values()):
        assert text in out


def test_what_binds_the_launch_to_a_manifest(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(b"{}\n")
    value = hashlib.sha256(b"{}\n").digest() + bytes(16)
    argument = "mrconfigid=" + base64.b64encode(value).decode()
    arguments += ["--disk", str(tmp_path / "disk.raw"), "--boot", "direct"]
    registers = json.loads(run([*arguments, "--json"], capsys)[1])["rtmrs"]
    arguments += ["--manifest", str(manifest)]
    printed = json.loads(run([*arguments, "--json"], capsys)[1])
    assert printed["launch_binding"] == {
        "field": "MRCONFIGID",
        "value": value.hex(),
        "qemu": argument,
    }
    assert printed["rtmrs"] == registers
    status, out, _ = run(arguments, capsys)
    assert status == 0
    assert value.hex() in out and argument in out.split()


def test_command_for_a_boot_from_disk(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments += ["--disk", str(tmp_path / "disk.raw"), "--boot", "disk", "--json"]
    status, _, err = run(arguments, capsys)
    assert (status, "needs boot variables" in err) == (2, True)
    for name, data in BOOT_VARIABLES:
        arguments += ["--boot-variable", f"{name}={data.hex()}"]
    status, out, _ = run(arguments, capsys)
    assert status == 0
    assert json.loads(out)["events"]["1"][3]["component"] == Component.UKI.value


def test_command_for_a_kernel(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kernel = rtmr.direct_boot(image.parse(builders.bootable_disk(), "disk").uki)
    (tmp_path / "linux").write_bytes(kernel.kernel)
    (tmp_path / "initrd").write_bytes(kernel.initrd)
    arguments += ["--kernel", str(tmp_path / "linux"), "--boot", "direct", "--json"]
    status, _, err = run(arguments, capsys)
    assert (status, "--kernel needs --initrd and --append" in err) == (2, True)
    arguments += ["--initrd", str(tmp_path / "initrd"), "--append", kernel.command_line]
    status, out, _ = run(arguments, capsys)
    expected = predicted(kernel).rtmrs()
    assert json.loads(out)["rtmrs"] == {str(n): v.hex() for n, v in expected.items()}


def test_a_disk_brings_its_own_command_line(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments += ["--disk", str(tmp_path / "disk.raw"), "--boot", "direct", "--append", "x"]
    status, _, err = run(arguments, capsys)
    assert (status, "command line of its own" in err) == (2, True)


def test_page_order_has_no_default(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = arguments.index("--page-order")
    for order in ([], ["--page-order", "random"]):
        changed = [*arguments[:at], *order, *arguments[at + 2 :]]
        with pytest.raises(SystemExit):
            main([*changed, "--disk", str(tmp_path / "disk.raw"), "--boot", "direct"])
        assert "--page-order" in capsys.readouterr().err
