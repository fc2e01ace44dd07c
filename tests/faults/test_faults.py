"""A short run of faults on native programs, with a seed that is always the same.

`make test-faults` runs more steps, under more clients, with any seed.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.apart import start_apart, why_not
from tests.faults.schedule import ACTS, Shape, Step, schedule

SEED = 252
"""Its steps are of every kind, with a new mesh among them."""

STEPS = 24
CLIENTS = 20
SECONDS = 600
SHAPE = ("2", "2", "1", "2")
"""Secret services, workers, gateways, proxies: as few as can lose one of each kind."""


def test_its_steps_are_of_every_kind() -> None:
    steps = schedule(SEED, STEPS, Shape(*map(int, SHAPE)))
    assert {step.act for step in steps} == ACTS
    assert Step("start", "coordinator") in [replace(step, after=0) for step in steps]


def test_a_service_that_is_broken_step_by_step(nft: Path, faketime: Path, tmp_path: Path) -> None:
    if reason := why_not():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    options = {
        "--seed": str(SEED),
        "--steps": str(STEPS),
        "--clients": str(CLIENTS),
        "--folder": str(tmp_path),
        "--nft": str(nft),
        "--faketime": str(faketime),
    }
    arguments = [word for option in options.items() for word in option]
    with start_apart("tests.faults.run", [*arguments, "--shape", *SHAPE]) as running:
        try:
            said, _ = running.communicate(timeout=SECONDS)
        finally:
            running.kill()
    print(said)
    assert running.returncode == 0, said
