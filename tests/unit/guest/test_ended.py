"""guest/ended.py: the last line on the console says how the program ended."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from confide.guest.ended import describe
from confide.host.runner.vm import GENERAL_CAUSE


@pytest.mark.parametrize(
    ("result", "code", "status", "said"),
    [
        ("signal", "killed", "KILL", "(signal: killed, KILL)"),
        ("oom-kill", "killed", "KILL", "(oom-kill: killed, KILL)"),
        ("exit-code", "exited", "1", "(exit-code: exited, 1)"),
        ("success", "exited", "0", "(success: exited, 0)"),
    ],
)
def test_how_it_ended(result: str, code: str, status: str, said: str) -> None:
    environment = {"SERVICE_RESULT": result, "EXIT_CODE": code, "EXIT_STATUS": status}
    line = describe("role program", environment)
    assert line == f"the role program has ended {said}: this machine powers off"
    assert GENERAL_CAUSE.search(f"confide: {line}")


def test_the_program_prints_it_even_if_the_service_manager_says_nothing() -> None:
    command = [sys.executable, "-m", "confide.guest.ended", "mounter"]
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    said = subprocess.run(command, env=path, check=True, capture_output=True, text=True).stderr
    assert said == "confide: the mounter has ended (?: ?, ?): this machine powers off\n"
