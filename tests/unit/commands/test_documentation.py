"""Every command in docs/operations.md is one that the programs take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from confide.commands.cli import command_parser

PAGE = Path(__file__).parents[3] / "docs/operations.md"
TEXT = PAGE.read_text().replace(" \\\n", " ")
COMMANDS = [line.strip() for line in re.findall(r"^    (confide [a-z].*)$", TEXT, re.M)]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str) -> None:
    _, program, *options = shlex.split(
        command.replace("HEX", "00" * (32 if "--root-hash" in command else 64)), comments=True
    )
    assert vars(command_parser(program).parse_args(options))["run"]


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 8
