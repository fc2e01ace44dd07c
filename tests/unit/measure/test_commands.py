"""The command line: what each command prints, and what it says of bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import measure
from measure import __main__ as cli
from measure import report
from tests.support.measurement import builders, platforms, samples

CHECKOUT = Path(measure.__file__).parents[1]
COMMANDS = [
    "image",
    "pcrs",
    "snp",
    "snp-id",
    "tdx",
    "eventlog",
    "explain",
    "diff",
    "corim",
    "picture",
]
Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_starts_with_the_command(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"example:\n  python -m measure {command} " in text


def test_the_list_of_commands_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    found = re.findall(r"^    ([a-z-]+)  ", capsys.readouterr().out, re.MULTILINE)
    assert sorted(found) == sorted(COMMANDS)


def test_image_for_two_platforms(run: Run) -> None:
    status, out, err = run(
        "image", "--disk", "disk", "--uki", "uki", "--shapes", "shapes", "--firmware", "fw",
        "--firmware-sev-snp", "fw-snp",
    )  # fmt: skip
    assert (status, err) == (0, "")
    measured = report.parse(out.encode(), "m")
    found = report.read(measured, "m")
    assert [p.shape.name for p in found.vtpm] == ["ovmf-disk", "ovmf-direct"]
    assert [p.shape.name for p in found.sev_snp] == ["qemu-epyc-milan-1", "qemu-epyc-milan-4"]
    assert measured["image"] == "disk"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--firmware", "none"), "none: cannot read: No such file or directory"),
        ((), "--firmware and machines of platform vtpm need each other"),
        (("--firmware", "fw", "--firmware-sev-snp", "fw-snp"), "--firmware-sev-snp and machines"),
        (("--firmware", "fw", "--firmware-tdx", "fw"), "--firmware-tdx and machines"),
        (("--firmware", "fw", "--acpi", "."), "--firmware-tdx and --acpi go together"),
        (("--firmware", "fw", "--shapes", "shapes"), "--firmware-sev-snp and machines"),
        (("--firmware", "fw", "--shapes", "uki"), "uki: not JSON"),
        (("--firmware", "fw", "--uki", "other-uki"), "other-uki: the disk boots a different UKI"),
        (("--firmware", "disk"), "disk at offset 0x0: no firmware volume"),
        (("--firmware", "fw", "-o", "none/x"), "none/x: cannot write"),
    ],
)
def test_image_says_what_is_wrong(run: Run, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = run("image", "--disk", "disk", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("measure: ")
    assert err.count("\n") == 1
    assert message in err


def test_pcrs(run: Run) -> None:
    status, out, _ = run("pcrs", "--disk", "disk", "--firmware", "fw", "--json")
    measured = platforms.measurements()["platforms"]["vtpm"][0]
    assert (status, json.loads(out)) == (0, measured["pcrs"])
    _, lines, _ = run("pcrs", "--disk", "disk", "--firmware", "fw", "--shape", "ovmf-direct")
    assert f" 4 {platforms.measurements()['platforms']['vtpm'][1]['pcrs']['4']}" in lines
    for wrong in (["--disk", "disk"], ["--disk", "disk", "--firmware", "fw", "--shape", "gce-tdx"]):
        with pytest.raises(SystemExit, match="2"):
            run("pcrs", *wrong)


def test_diff(run: Run) -> None:
    assert run("diff", "m.json", "m.json")[0] == 0
    assert run("diff", "m.json", "m.json", "--json") == (0, "[]\n", "")
    run("image", "--disk", "disk", "--firmware", "fw", "-o", "a.json")
    Path("disk2").write_bytes(builders.bootable_disk(builders.uki({".initrd": b"another"})))
    run("image", "--disk", "disk2", "--firmware", "fw", "-o", "b.json")
    status, out, _ = run("diff", "a.json", "b.json", "--json")
    found = json.loads(out)
    assert status == 1
    causes = [item for item in found if not item["follows"] and item["component"] == "initrd"]
    assert causes
    assert set(found[0]) == {"register", "component", "description", "expected", "seen", "follows"}
    status, out, _ = run("diff", "a.json", "b.json")
    assert status == 1
    assert "PCR 11: initrd: section .initrd" in out


def test_explain_and_eventlog_for_scripts(run: Run) -> None:
    prediction = samples.predict()
    Path("log").write_bytes(samples.log_bytes(prediction))
    status, out, _ = run("explain", "log", "--image", "m.json", "--json")
    said = json.loads(out)
    assert (status, said["compared_with"], said["differences"]) == (0, "ovmf-disk", [])
    assert said["notes"]
    status, out, _ = run("eventlog", "log", "--json")
    said = json.loads(out)
    assert (status, said["contradictions"]) == (0, [])
    expected = {str(n): v.hex() for n, v in prediction.pcrs().items() if prediction.of(n)}
    assert said["registers"] == {"sha256": expected}
    assert [e["digests"]["sha256"] for e in said["events"]] == [
        e.digest.hex() for e in prediction.events
    ]
    other = samples.predict(samples.changed_uki(initrd=b"another"))
    Path("log").write_bytes(samples.log_bytes(other))
    status, out, _ = run("explain", "log", "--image", "m.json", "--json")
    assert status == 1
    assert {d["component"] for d in json.loads(out)["differences"] if not d["follows"]} == {
        "initrd"
    }


def test_picture(run: Run) -> None:
    assert run("picture", "m.json", "-o", "p.svg") == (0, "", "")
    assert Path("p.svg").read_text().startswith("<svg ")
    status, out, _ = run("picture", "m.json", "--shape", "ec2-2")
    assert status == 0
    assert "sev-snp ec2-2" in out


def test_every_command_but_corim_works_without_cbor2() -> None:
    """As in the sandbox that builds the images, and on an auditor's machine."""
    script = """
import sys
sys.modules["cbor2"] = None
from measure import __main__
sys.exit(__main__.main(["picture", "m.json"]) or __main__.main(["corim", "show", "m.json"]))
"""
    folder = CHECKOUT.joinpath("tests")
    with_report = subprocess.run(
        [sys.executable, "-c", script.replace("m.json", "/dev/stdin", 1)],
        input=platforms.encoded(),
        capture_output=True,
        cwd=folder,
        env={"PYTHONPATH": str(CHECKOUT)},
        check=False,
    )
    assert b"launch digest" in with_report.stdout
    assert (
        with_report.stderr == b"measure: CBOR needs the Python package cbor2, version 6 or later\n"
    )
    assert with_report.returncode == 2


def test_a_reader_that_stops_early(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(platforms.encoded())
    command = f"{sys.executable} -m measure picture m.json | head -c 1"
    shown = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )
    assert shown.stderr == b""


def test_a_file_larger_than_any_that_is_meant_is_not_read(tmp_path: Path, capsys: Any) -> None:
    """A sparse file of a gigabyte in the place of measurements, and of a CoRIM."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 30)
    name = str(large)
    for arguments in (
        ["diff", name, name],
        ["picture", name],
        ["corim", "show", name],
    ):
        assert cli.main(arguments) == 2
        assert "too large" in capsys.readouterr().err
