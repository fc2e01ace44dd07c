"""What the users of the role and of the engines can reach inside a booted worker: a list.

In the debug image, which has the units of the release image. A program of it (images/debug/app/
reach.py) runs in each unit's place, under that unit's own restrictions, and prints all that it can
open, connect to, signal and trace. The lists are committed: a change of them is a decision.

The machine joins nothing here. Root, at the console, puts the manifest where the role program does.
"""

from __future__ import annotations

import base64
from hashlib import sha256
from pathlib import Path

import pytest

from confide.commands.system import Build
from confide.host.runner.qemu import HOST_IN_GUEST
from confide.host.runner.vm import Machine
from confide.protocol.configdisk import ConfigDisk
from tests.support.console import keyboard, wait_for

BOOT_SECONDS = 300
ENGINE_SECONDS = 900
LIST_SECONDS = 600
UNITS = ("role", "engine")
HERE = Path(__file__).parent
HANDED_OVER = "/run/confide-role/manifest.json"


@pytest.fixture(scope="module")
def console(
    build: Build, debug_worker: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """The console of a debug worker that serves its model, with both lists on it."""
    folder = tmp_path_factory.mktemp("reach")
    manifest = build.manifest.read_bytes()
    config = ConfigDisk(
        sha256(manifest).digest(),
        f"http://{HOST_IN_GUEST}:9",
        f"https://{HOST_IN_GUEST}:9",
        (build.model_name,),
    )
    with keyboard(folder) as (type_lines, extra):
        machine = Machine(
            debug_worker,
            "worker-cpu",
            config=config,
            run_dir=folder / "run",
            model_disks=[build.model / "model.disk"],
            tools=build.tools,
            extra=extra,
        )
        with machine:
            wait_for(machine, "joining failed", BOOT_SECONDS)
            type_lines(f"busybox base64 -d >/run/typed <<END\n{encoded(manifest)}END\n")
            type_lines(f"busybox mv /run/typed {HANDED_OVER}\n")
            wait_for(machine, "is ready", ENGINE_SECONDS)
            type_lines(": >/run/reach\n")
            for unit in UNITS:
                said = wait_for(machine, f"reach {unit}: end", LIST_SECONDS)
    return said


def encoded(data: bytes) -> str:
    return base64.encodebytes(data).decode()


@pytest.mark.parametrize("unit", UNITS)
def test_reach_is_what_the_list_says(console: list[str], unit: str) -> None:
    prefix = f"reach {unit}: "
    reached = [line.removeprefix(prefix) for line in console if line.startswith(prefix)]
    expected = (HERE / f"reach-{unit}.txt").read_text().splitlines()
    assert [line for line in reached if line != "end"] == expected
