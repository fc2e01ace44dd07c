"""What the users of role, engines and supervisor can reach inside a booted machine: a list.

In the debug images, which have the units of the release images. A program of them
(images/debug/app/reach.py) runs in each unit's place, under that unit's own restrictions, and
prints all that it can open, connect to, signal and trace. A third list is what the kernel enforces
of each unit's restrictions: of some that it lacks, systemd says nothing. The lists are committed: a
change of them is a decision. The worker serves two models, so that the list of the first one's
engine shows that it reaches nothing of the second. The lists of the GPU worker are made by
tests/gpu_image/test_reach.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from confide.commands.system import Build
from confide.host.runner.vm import Machine
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.manifest import Manifest
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
    Role.WORKER_CPU: ("role", "engines", "engine-1", "engine-2", "units"),
}
SECOND = "second"


def with_second_model(manifest: bytes, build: Build) -> bytes:
    """The manifest with the build's model under a second name, too. The disk is the same."""
    parsed = Manifest.parse(manifest)
    model = parsed.model(build.model_name)
    return replace(parsed, models=(replace(model, name=SECOND), model)).encode()


def as_the_first(line: str) -> str:
    """A line of the second engine's list as the first engine's has it."""
    return re.sub(r"\b302\b", "301", re.sub(r"/2(?=/|\.json|$)", "/1", line))


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
    manifest = with_second_model(manifest_of(list(images.values()), build.model), build)
    models = [build.model_name, SECOND]
    is_worker = role == Role.WORKER_CPU
    with (
        simulated_coordinator(folder, manifest, models) as worker,
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
            for model in models:
                said(machine, f"the engine of the model {model} is ready", ENGINE_SECONDS)
        else:
            machine.wait_ready(BOOT_SECONDS)
        yield role, print_lists(machine, type_lines, LISTS[role])


def test_reach_is_what_the_list_says(reached: tuple[Role, list[str]]) -> None:
    role, console = reached
    for name in LISTS[role]:
        found = listed(console, name)
        if name == "engine-2":
            found, name = sorted(map(as_the_first, found)), "engine-1"
        assert found == committed(f"{role}-{name}"), name
