"""Every command in docs/operations.md is one that the programs take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from confide.client.proxy.__main__ import parse_arguments
from confide.commands import cli, collateral, model

PAGE = Path(__file__).parents[4] / "docs/operations.md"
TEXT = PAGE.read_text().replace(" \\\n", " ")
COMMANDS = [line.strip() for line in re.findall(r"^    (confide [a-z].*)$", TEXT, re.M)]
PARSERS = {"collateral": collateral._parser, "model": model._parser}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("manifest.json").write_text("{}")
    _, program, *options = shlex.split(
        command.replace("HEX", "00" * (32 if "--root-hash" in command else 64)), comments=True
    )
    if program in PARSERS:
        assert vars(PARSERS[program]().parse_args(options))["run"]
    elif program == "proxy":
        assert parse_arguments(options).collateral == Path("service.collateral")
    else:
        assert vars(cli._parser().parse_args([program, *options]))["run"]


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 8
