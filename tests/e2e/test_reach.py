"""What the users of the role and of the engines can reach inside a booted machine: a list.

In the debug images, which have the units of the release images. A program of them
(images/debug/app/reach.py) runs in each unit's place, under that unit's own restrictions, and
prints all that it can open, connect to, signal and trace. A third list is what the kernel enforces
of each unit's restrictions: of some that it lacks, systemd says nothing. The lists are committed: a
change of them is a decision. That of the GPU worker is made by tests/gpu_image/test_reach.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from confide.commands.system import Build
from confide.host.runner.vm import Machine
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.roles import Role
from tests.support.alone import manifest_of, simulated_coordinator
from tests.support.console import keyboard, said
from tests.support.reach import committed, listed, print_lists

pytestmark = pytest.mark.long

BOOT_SECONDS = 600
ENGINE_SECONDS = 1200
LISTS = {
    Role.COORDINATOR: ("role", "units"),
    Role.SECRET_SERVICE: ("role", "units"),
    Role.WORKER_CPU: ("role", "engine", "units"),
}


@pytest.fixture(scope="module", params=LISTS)
def reached(
    request: pytest.FixtureRequest,
    build: Build,
    debug_image: Path,
    debug_secret_service: Path,
    debug_worker: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Role, list[str]]]:
    """The console of a machine of each role, which serves, with all its lists on it."""
    role: Role = request.param
    images = {
        Role.COORDINATOR: debug_image,
        Role.SECRET_SERVICE: debug_secret_service,
        Role.WORKER_CPU: debug_worker,
    }
    folder = tmp_path_factory.mktemp(role)
    manifest = manifest_of(list(images.values()), build.model)
    is_worker = role == Role.WORKER_CPU
    with (
        simulated_coordinator(folder, manifest, [build.model_name]) as worker,
        keyboard(folder) as (type_lines, extra),
        Machine(
            images[role],
            role,
            config=worker if is_worker else ConfigDisk(worker.manifest_sha256, worker.coordinator),
            run_dir=folder / "run",
            model_disks=[build.model / "model.disk"] if is_worker else [],
            tools=build.tools,
            extra=extra,
        ) as machine,
    ):
        if is_worker:
            said(machine, "is ready", ENGINE_SECONDS)
        else:
            machine.wait_ready(BOOT_SECONDS)
        yield role, print_lists(machine, type_lines, LISTS[role])


def test_reach_is_what_the_list_says(reached: tuple[Role, list[str]]) -> None:
    role, console = reached
    for name in LISTS[role]:
        assert listed(console, name) == committed(f"{role}-{name}"), name
