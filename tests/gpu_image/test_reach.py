"""What a booted GPU worker reaches, as tests/e2e/test_reach.py says it of the other roles.

Without a GPU it does not join and its engine does not start, so there is no list of the engine.
Launched for no manifest, it does not even look for its GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from confide.host.runner.qemu import HOST_IN_GUEST, Tools
from confide.host.runner.vm import Machine
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.launch import UNBOUND
from confide.protocol.roles import Role
from tests.support.console import keyboard, said
from tests.support.reach import committed, listed, print_lists

SECONDS = 600
NOBODY = f"{HOST_IN_GUEST}:9"
MODELS = ("tiny",)
REFUSED = "there is no usable NVIDIA GPU"


@contextmanager
def booted(
    image: Path, tools: Tools, binding: bytes, folder: Path
) -> Iterator[tuple[Machine, Callable[[str], None]]]:
    """A GPU worker that was launched for this binding, and the way to type at its console."""
    with (
        keyboard(folder) as (type_lines, extra),
        Machine(
            image,
            Role.WORKER_GPU,
            config=ConfigDisk(binding, f"http://{NOBODY}", f"https://{NOBODY}", MODELS),
            run_dir=folder / "run",
            tools=tools,
            memory_mib=2048,
            extra=extra,
        ) as machine,
    ):
        yield machine, type_lines


@pytest.fixture(scope="module")
def console(
    debug_gpu_worker: Path, tools: Tools, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    folder = tmp_path_factory.mktemp("reach")
    with booted(debug_gpu_worker, tools, b"\1" * 32, folder) as (machine, type_lines):
        said(machine, REFUSED, SECONDS)
        said(machine, "joining failed", SECONDS)
        return print_lists(machine, type_lines, ("role", "units"))


@pytest.mark.parametrize("name", ["role", "units"])
def test_reach_is_what_the_list_says(console: list[str], name: str) -> None:
    assert listed(console, name) == committed(f"worker-gpu-{name}")


def test_an_inventory_boot_leaves_the_gpus_alone(
    debug_gpu_worker: Path, tools: Tools, tmp_path: Path
) -> None:
    """Of the units of single roles, none starts."""
    with booted(debug_gpu_worker, tools, UNBOUND, tmp_path) as (machine, type_lines):
        assert machine.wait_ready(SECONDS) == {"state": "inventory"}
        lines = print_lists(machine, type_lines, ("units",))
    units = {line.split()[0] for line in listed(lines, "units")}
    assert units == {"confide-network.service", "confide-role.service"}
    assert not [line for line in lines if REFUSED in line]
