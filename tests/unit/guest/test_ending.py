"""A machine that has to end ends, also if the host takes no more lines from its console."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest

from confide.guest.ending import SAY_SECONDS, MachineEndsError, without

ROOT = Path(__file__).resolve().parents[3]
ENDS = """
from confide.guest.ending import MachineEndsError, end_machine
end_machine(MachineEndsError("the mesh is gone"))
"""


def run(stderr: int) -> int:
    environment = {"PYTHONPATH": f"{ROOT}/py:{ROOT}"}
    process = subprocess.Popen([sys.executable, "-c", ENDS], stderr=stderr, env=environment)
    try:
        return process.wait(60)
    finally:
        process.kill()
        process.wait()


def test_a_console_that_takes_nothing() -> None:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writes, bytes(65536))
    os.set_blocking(writes, True)
    started = time.monotonic()
    status = run(writes)
    assert status != 0
    assert time.monotonic() - started >= SAY_SECONDS, "it was not blocked: the test shows nothing"
    os.close(reads)
    os.close(writes)


def test_a_console_that_is_gone() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    assert run(writes) == 1
    os.close(writes)


def test_a_rule_says_which_one_and_a_failure_only_its_type() -> None:
    said: list[str] = []

    def end(error: MachineEndsError) -> NoReturn:
        said.append(str(error))
        raise error

    ended = without("the watch", end)
    for error in (MachineEndsError("the mesh is gone"), RuntimeError("the key is 1234")):
        with pytest.raises(MachineEndsError):
            ended(error)
    assert said == ["the mesh is gone", "the watch failed: RuntimeError"]
