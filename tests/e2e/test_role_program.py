"""A role's program ends, whatever the reason: the machine powers off, and the console says why.

In the debug image, whose units are those of the release image. What root types at its console is
what a fault, the kernel or a service manager may do to a process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from confide.commands.system import Build
from confide.host.runner.vm import Machine
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.roles import Role
from confide.protocol.validity import CLOCK_TOLERANCE
from tests.support.alone import manifest_of, simulated_coordinator
from tests.support.console import keyboard
from tests.support.launch import launched_for
from tests.support.reach import signal_program

BOOT_SECONDS = 600
POWER_OFF_SECONDS = 120


@pytest.mark.parametrize(
    ("signal", "first", "how"),
    [
        pytest.param("KILL", True, "(signal: killed, KILL)", id="killed"),
        # gunicorn, by itself, would start another one in its place: without keys and mesh.
        pytest.param(
            *("KILL", False, "(exit-code: exited, 1)"),
            id="the process that serves is killed",
            marks=pytest.mark.long,
        ),
        pytest.param(
            *("TERM", True, "(success: exited, 0)"), id="a clean exit", marks=pytest.mark.long
        ),
    ],
)
def test_the_machine_powers_off(
    build: Build, debug_image: Path, tmp_path: Path, signal: str, first: bool, how: str
) -> None:
    config = launched_for(build)
    with shell(build, debug_image, Role.COORDINATOR, config, tmp_path) as (machine, type_lines):
        type_lines(signal_program("confide.guest.coordinator", signal, first=first))
        wait_for_the_end(machine)
        end = f"confide: the role program has ended {how}: this machine powers off"
        assert end in machine.cause()


@pytest.mark.long
def test_a_machine_whose_clock_is_turned_powers_off(
    build: Build, debug_secret_service: Path, debug_worker: Path, tmp_path: Path
) -> None:
    images = [build.images / "coordinator", debug_secret_service, debug_worker]
    with simulated_coordinator(tmp_path, manifest_of(images, build.model), ()) as node:
        config = ConfigDisk(node.manifest_sha256, node.coordinator)
        with shell(build, debug_secret_service, Role.SECRET_SERVICE, config, tmp_path) as (
            machine,
            type_lines,
        ):
            type_lines(f"date -s @$(($(date +%s) + {2 * CLOCK_TOLERANCE}))\n")
            wait_for_the_end(machine)
            assert "confide: this machine ends: its clock has gone" in machine.cause()


@contextmanager
def shell(
    build: Build, image: Path, role: str, config: ConfigDisk, folder: Path
) -> Iterator[tuple[Machine, Callable[[str], None]]]:
    """A machine that is ready, and a function that types at its console."""
    with (
        keyboard(folder) as (type_lines, extra),
        Machine(
            image,
            role,
            config=config,
            run_dir=folder / "run",
            tools=build.tools,
            extra=extra,
        ) as machine,
    ):
        machine.wait_ready(BOOT_SECONDS)
        yield machine, type_lines


def wait_for_the_end(machine: Machine) -> None:
    deadline = time.monotonic() + POWER_OFF_SECONDS
    while machine.running and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not machine.running, machine.console_tail()
