"""What the users of the role and of the engines can reach inside a booted worker: a list.

In the debug image, which has the units of the release image. A program of it (images/debug/app/
reach.py) runs in each unit's place, under that unit's own restrictions, and prints all that it can
open, connect to, signal and trace. A third list is what the kernel enforces of each unit's
restrictions: of some that it lacks, systemd says nothing. The lists are committed: a change of them
is a decision.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from confide.commands.system import Build
from confide.host.runner.vm import Machine
from tests.support.alone import manifest_of, simulated_coordinator
from tests.support.console import keyboard, lines, said

pytestmark = pytest.mark.long

JOIN_SECONDS = 600
ENGINE_SECONDS = 1200
LIST_SECONDS = 600
LISTS = ("role", "engine", "units")
ROOTS_LIST = "/usr/bin/python3.13 -s -S -P /opt/confide/reach.py units"
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def console(
    build: Build, debug_worker: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """The console of a debug worker that has joined and serves, with both lists on it."""
    folder = tmp_path_factory.mktemp("reach")
    manifest = manifest_of([build.images / "coordinator", debug_worker], build.model)
    models = [build.model_name]
    with (
        simulated_coordinator(folder, manifest, models) as config,
        keyboard(folder) as (type_lines, extra),
        Machine(
            debug_worker,
            "worker-cpu",
            config=config,
            run_dir=folder / "run",
            model_disks=[build.model / "model.disk"],
            tools=build.tools,
            extra=extra,
        ) as machine,
    ):
        said(machine, "joined the mesh", JOIN_SECONDS)
        said(machine, "is ready", ENGINE_SECONDS)
        type_lines(f": >/run/reach\n{ROOTS_LIST}\n")
        for name in LISTS:
            said(machine, f"reach {name}: end", LIST_SECONDS)
        return lines(machine)


def test_disks_are_opened_after_the_join(console: list[str]) -> None:
    [joined] = [number for number, line in enumerate(console) if "joined the mesh" in line]
    [opened] = [number for number, line in enumerate(console) if "each read is verified" in line]
    assert joined < opened


@pytest.mark.parametrize("name", LISTS)
def test_reach_is_what_the_list_says(console: list[str], name: str) -> None:
    prefix = f"reach {name}: "
    # The shell's prompt may stand before it on the same line.
    reached = [line.partition(prefix)[2] for line in console if prefix in line]
    expected = (HERE / f"reach-{name}.txt").read_text().splitlines()
    assert [line for line in reached if line != "end"] == expected
