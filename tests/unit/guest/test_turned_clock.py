"""The clock of a real program is turned while it runs. Only its own: no machine's clock is set."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.support.programs import Program, program
from tests.support.simulated_machine import current_manifest


class Turned:
    """libfaketime reads from a file how far to turn the clock of the program that loads it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.by(0)

    def by(self, seconds: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)


@pytest.fixture
def clock(faketime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Turned:
    """The clock of each program that the test starts from now on."""
    file = tmp_path / "turned"
    clock = Turned(file)
    for name, value in {
        "LD_PRELOAD": str(faketime),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return clock


def said_at_its_end(running: Program) -> str:
    assert running.process.wait(20) != 0
    return running.log.read_text()


def test_a_coordinator_and_a_node_end(clock: Turned, tmp_path: Path) -> None:
    manifest = current_manifest()
    with (
        program("coordinator", tmp_path, manifest) as coordinator,
        program("secret-service", tmp_path, manifest, coordinator.url) as node,
    ):
        coordinator.wait("no-manifest")
        node.wait("starting")
        clock.by(200)
        time.sleep(2.5)
        coordinator.wait("no-manifest")
        node.wait("starting")
        clock.by(21 * 86400)
        for machine in (coordinator, node):
            said = said_at_its_end(machine)
            assert re.search(r"this machine ends: its clock has gone \+1814[34]\d\d s", said)


def test_a_clock_that_goes_back_a_little(clock: Turned, tmp_path: Path) -> None:
    with program("coordinator", tmp_path, current_manifest()) as coordinator:
        coordinator.wait("no-manifest")
        clock.by(-20)
        assert "this machine ends: its clock was turned back by " in said_at_its_end(coordinator)
