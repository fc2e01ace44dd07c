"""From disk and firmware to registers, to measurements.json, and what a difference is called."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from measure import __main__ as cli
from measure import firmware, gpt, image, pcr, report, shapes
from measure.errors import FormatError
from tests.support.measurement import builders
from tests.support.measurement.samples import (
    changed_uki,
    log_bytes,
    log_of,
    measurements,
    predict,
)

PREDICTED = [0, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14]


def test_every_register_is_predicted_or_left_out_with_a_reason() -> None:
    shape = shapes.OVMF_DISK
    assert list(shape.predicted) == PREDICTED
    assert sorted([*shape.predicted, *shape.left_out]) == list(range(24))
    assert all(shape.left_out.values()) and all(shape.covers.values())


def test_registers_are_the_replay_of_the_events() -> None:
    prediction = predict()
    replay = log_of(prediction).replay()
    assert prediction.pcrs() == {n: replay.get(n, bytes(32)) for n in PREDICTED}
    separator_only = hashlib.sha256(bytes(32) + hashlib.sha256(bytes(4)).digest()).digest()
    assert prediction.pcrs()[2] == prediction.pcrs()[3] == separator_only
    for untouched in (8, 12, 13, 14):
        assert prediction.pcrs()[untouched] == bytes(32)


@pytest.mark.parametrize(
    ("changes", "registers"),
    [
        ({"cmdline": builders.COMMAND_LINE + b"x"}, {4, 9, 11}),
        ({"cmdline": builders.COMMAND_LINE + b"\n"}, {4, 11}),
        ({"initrd": b"other initrd"}, {4, 9, 11}),
        ({"osrel": b"ID=other\n"}, {4, 9, 11}),
        ({"uname": b"6.12.1"}, {4, 11}),
        ({"linux": builders.pe([(".text", b"other code!")])}, {4, 11}),
        ({"text": b"\x91" * 64}, {4}),
    ],
)
def test_which_registers_a_change_moves(changes: dict[str, bytes], registers: set[int]) -> None:
    before, after = predict().pcrs(), predict(changed_uki(**changes)).pcrs()
    assert {n for n in PREDICTED if before[n] != after[n]} == registers


def test_partition_table_and_firmware_move_their_own_register() -> None:
    before = predict()
    esp = gpt.ESP_TYPE
    disk = builders.disk([("ESP", esp, builders.fat({"EFI/BOOT/BOOTX64.EFI": builders.uki()}))])
    code = firmware.measure(builders.firmware(strings=["2025.03-test"]), "firmware")
    after = pcr.predict(shapes.OVMF_DISK, image.parse(disk, "disk"), code)
    moved = {n for n in PREDICTED if before.pcrs()[n] != after.pcrs()[n]}
    assert moved == {0, 5}


def test_report_is_canonical_and_complete() -> None:
    measured = measurements()
    encoded = report.encode(measured)
    assert encoded == json.dumps(json.loads(encoded), sort_keys=True, indent=2).encode() + b"\n"
    assert report.parse(encoded, "m") == measured
    assert measured["layers"] == [{"name": "base", "root_hash": builders.ROOT_HASH}]
    (platform,) = measured["platforms"]["vtpm"]
    assert platform["shape"] == "ovmf-disk"
    assert platform["pcrs"] == {str(n): v.hex() for n, v in predict().pcrs().items()}
    assert set(platform["left_out"]) == {str(n) for n in range(24)} - set(platform["pcrs"])
    uki = builders.uki()
    assert measured["files"]["uki"] == {
        "sha256": hashlib.sha256(uki).hexdigest(), "size": len(uki),
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.pop("layers"),
        lambda r: r.update(extra=1),
        lambda r: r.update(format="confide-measurements/1"),
        lambda r: r["platforms"].pop("vtpm"),
        lambda r: r["platforms"]["vtpm"][0].update(shape="other"),
        lambda r: r["platforms"]["vtpm"][0]["pcrs"].update({"4": "00" * 32}),
        lambda r: r["platforms"]["vtpm"][0]["pcrs"].pop("4"),
        lambda r: r["platforms"]["vtpm"][0]["events"]["4"].pop(),
        lambda r: r["platforms"]["vtpm"][0]["events"]["4"][0].update(digest="zz"),
        lambda r: r["platforms"]["vtpm"][0]["events"]["4"][0].update(component="soul"),
        lambda r: r["platforms"]["vtpm"][0]["events"].update({"four": []}),
        lambda r: r["platforms"].update(vtpm=[]),
        lambda r: r["platforms"].update(vtpm="no"),
        lambda r: r["layers"].append(1),
        lambda r: r.update(command_line=None),
        lambda r: r.update(image=1),
        lambda r: r.update(files=[]),
    ],
)
def test_altered_reports_are_refused(change: Any) -> None:
    measured = measurements()
    change(measured)
    with pytest.raises(FormatError):
        report.parse(report.encode(measured), "m")


@pytest.mark.parametrize("change", [b" ", b"{", b"[]\n", b"nonsense", b"[" * 100_000])
def test_reports_that_are_not_canonical_json(change: bytes) -> None:
    with pytest.raises(FormatError):
        report.parse(change + report.encode(measurements()), "m")
    with pytest.raises(FormatError):
        report.parse(change, "m")


def test_too_large_a_report() -> None:
    measured = measurements()
    measured["image"] = "x" * report.MAX_REPORT
    with pytest.raises(FormatError, match="too large"):
        report.parse(report.encode(measured), "m")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "disk.raw").write_bytes(builders.bootable_disk())
    (tmp_path / "uki.efi").write_bytes(builders.uki())
    (tmp_path / "other.efi").write_bytes(changed_uki(uname=b"x"))
    (tmp_path / "code.fd").write_bytes(builders.firmware())
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "log").write_bytes(log_bytes(predict()))
    (tmp_path / "other.log").write_bytes(builders.log())
    return tmp_path


def run(files: Path, *arguments: str) -> int:
    """Runs the command line; an argument `@x` stands for the file x."""
    return cli.main([str(files / a[1:]) if a.startswith("@") else a for a in arguments])


INPUTS = ("--disk", "@disk.raw", "--firmware", "@code.fd")


def test_cli_image(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ("-o", "@m.json", "--name", "test", "--uki", "@uki.efi")
    assert run(files, "image", *INPUTS, *output) == 0
    assert (files / "m.json").read_bytes() == report.encode(measurements())
    assert run(files, "image", *INPUTS, "--name", "test") == 0
    assert capsys.readouterr().out.encode() == report.encode(measurements())


def test_cli_image_refuses_another_uki(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(files, "image", *INPUTS, "--uki", "@other.efi", "-o", "@m.json") == 2
    assert "a different UKI" in capsys.readouterr().err
    assert not (files / "m.json").exists()


def test_cli_pcrs(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(files, "pcrs", *INPUTS) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [[str(n), value.hex()] for n, value in predict().pcrs().items()]


def test_cli_eventlog(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(files, "eventlog", "@log") == 0
    output = capsys.readouterr().out
    assert f"sha256  4 {predict().pcrs()[4].hex()}" in output
    assert run(files, "eventlog", "@other.log", "--table", "@log") == 2
    assert "not a CCEL table" in capsys.readouterr().err


def test_cli_explain_and_diff(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(files, "image", *INPUTS, "-o", "@m.json")
    assert run(files, "explain", "@log", "--image", "@m.json") == 0
    assert run(files, "explain", "@log", "--image", "@disk.raw", "--firmware", "@code.fd") == 0
    assert run(files, "explain", "@other.log", "--image", "@m.json") == 1
    assert "PCR 0: firmware" in capsys.readouterr().out
    assert run(files, "diff", "@m.json", "@m.json") == 0
    (files / "changed.raw").write_bytes(builders.bootable_disk(changed_uki(uname=b"x")))
    changed = ("--disk", "@changed.raw", "--firmware", "@code.fd")
    run(files, "image", *changed, "-o", "@changed.json")
    assert run(files, "diff", "@m.json", "@changed.json") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("pcrs", "--disk", "@missing", "--firmware", "@code.fd"),
        ("pcrs", "--disk", "@empty", "--firmware", "@code.fd"),
        ("pcrs", "--disk", "@disk.raw", "--firmware", "@disk.raw"),
        ("explain", "@log", "--image", "@disk.raw"),
        ("explain", "@log", "--image", "@empty", "--firmware", "@code.fd"),
        ("explain", "@disk.raw", "--image", "@disk.raw", "--firmware", "@code.fd"),
        ("diff", "@disk.raw", "@disk.raw"),
        ("image", *INPUTS, "-o", "@no/such/folder"),
        ("eventlog", "@empty"),
    ],
)
def test_cli_errors_are_one_line(
    files: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(files, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("measure: ") and captured.err.count("\n") == 1


def test_cli_refuses_a_layer_that_is_not_the_measured_one(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = bytearray((files / "disk.raw").read_bytes())
    layer = image.parse(bytes(disk), "disk").table.partitions[1]
    disk[layer.start + 4096 * 3] ^= 1
    (files / "disk.raw").write_bytes(disk)
    assert run(files, "image", *INPUTS, "-o", "@m.json") == 2
    assert "first differing block: 3 of 12" in capsys.readouterr().err
    assert not (files / "m.json").exists()
