"""Exit statuses: 0, 1 and 2 mean the same in every command."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import measure
from measure import __main__ as cli
from measure import report
from measure.status import ExitStatus
from tests.support.measurement import builders, ovmf_builders, platforms

COMMANDS = Path(measure.__file__).parent / "commands"
SNP = ("--vcpu-type", "EPYC-Milan", "--vcpus", "1", "--guest-features", "1")
TDX = (
    "--memory-mib", "2048", "--edk2", "2026.08", "--page-order", "single-pass", "--attributes",
    "0x10000000", "--xfam", "0xe7", "--boot", "direct",
)  # fmt: skip
# For each command: all it needs, with a file in first place that must be readable.
MISSING = {
    "image": ("image", "--disk", "none", "--firmware", "fw"),
    "pcrs": ("pcrs", "--disk", "none", "--firmware", "fw"),
    "snp": ("snp", "--firmware", "none", *SNP),
    "snp-id": (
        "snp-id", "--id-block", "none", "--id-key", "none", "--id-signature", "none", "-o", "x",
    ),
    "tdx": ("tdx", "--firmware", "none", "--machine", "none", "--disk", "disk", *TDX),
    "eventlog": ("eventlog", "none"),
    "explain": ("explain", "none", "--image", "m.json"),
    "diff": ("diff", "m.json", "none"),
    "corim write": ("corim", "write", "none"),
    "corim show": ("corim", "show", "none"),
    "corim compare": ("corim", "compare", "none", "m.json"),
    "corim to-be-signed": (
        "corim", "to-be-signed", "none", "--algorithm", "ES384", "--signer", "Example Ltd",
    ),
    "corim assemble": ("corim", "assemble", "none", "none"),
    "picture": ("picture", "none"),
}  # fmt: skip
NOTHING_DIFFERS = [
    ("image", "--disk", "disk", "--firmware", "fw", "-o", "out"),
    ("pcrs", "--disk", "disk", "--firmware", "fw"),
    ("snp", "--firmware", "fw-snp", *SNP),
    ("eventlog", "log"),
    ("diff", "m.json", "m.json"),
    ("corim", "write", "m.json", "-o", "out"),
    ("corim", "show", "all.corim"),
    ("corim", "compare", "all.corim", "m.json"),
    ("picture", "m.json"),
]
SOMETHING_DIFFERS = [
    ("eventlog", "lie"),
    ("explain", "log", "--image", "m.json"),
    ("diff", "m.json", "other.json"),
    ("corim", "compare", "one.corim", "m.json"),
]


def commands(parser: argparse.ArgumentParser, before: str = "") -> Iterator[str]:
    """The names of all commands of a parser, as typed."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, part in action.choices.items():
                below = list(commands(part, f"{before}{name} "))
                yield from below or [before + name]


ALL = list(commands(cli._parser()))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small inputs of every kind, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name, data in {
        "disk": builders.bootable_disk(),
        "fw": builders.firmware(),
        "fw-snp": ovmf_builders.image(),
        "m.json": platforms.encoded(),
        "other.json": report.encode(platforms.measurements() | {"image": "other"}),
        "log": builders.log(),
        "lie": builders.log_header() + builders.log_event(4, 5, b"one", bytes(32)),
    }.items():
        Path(name).write_bytes(data)
    assert cli.main(["image", "--disk", "disk", "--firmware", "fw", "-o", "other.json"]) == 0
    assert cli.main(["corim", "write", "m.json", "-o", "all.corim"]) == 0
    assert cli.main(["corim", "write", "m.json", "--shape", "qemu-2", "-o", "one.corim"]) == 0
    return tmp_path


def test_the_numbers_are_promised() -> None:
    assert {status.name: status.value for status in ExitStatus} == {
        "OK": 0,
        "DIFFERS": 1,
        "ERROR": 2,
    }


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", ALL)
def test_a_file_that_cannot_be_read_is_an_error(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(list(MISSING[command])) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("measure: none: cannot read")


@pytest.mark.parametrize("command", ALL)
def test_wrong_usage_is_an_error(command: str) -> None:
    for arguments in ([], ["--no-such-option"]):
        with pytest.raises(SystemExit) as stop:
            cli.main([*command.split(), *arguments])
        assert stop.value.code == 2


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("arguments", NOTHING_DIFFERS, ids=" ".join)
def test_success(arguments: tuple[str, ...]) -> None:
    assert cli.main(list(arguments)) == 0


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("arguments", SOMETHING_DIFFERS, ids=" ".join)
def test_a_difference(arguments: tuple[str, ...]) -> None:
    assert cli.main(list(arguments)) == 1


@pytest.mark.usefixtures("folder")
def test_a_bug_does_not_look_like_a_difference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("measure.eventlog.parse", broken)
    assert cli.main(["eventlog", "log"]) == 2
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_output_that_cannot_be_written_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main(["diff", "m.json", "m.json"]) == 2
        monkeypatch.undo()
    assert "measure: cannot write the output: No space left" in capsys.readouterr().err


def test_there_is_one_definition() -> None:
    """No command returns a number of its own."""
    for file in sorted(COMMANDS.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and ast.unparse(node.returns or node) == "int":
                assert node.name in ("_number", "_day"), f"{file.name}: {node.name}"
