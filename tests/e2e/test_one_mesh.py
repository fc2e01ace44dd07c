"""One boot, one mesh: booted machines, with a man in the middle between node and coordinator.

The tests follow each other: the node of the first one goes on to the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest

from confide.client.collateral.finder import offline
from confide.client.service import set_manifest
from confide.commands.system import Build
from confide.guest.mesh.join import LOOK_AFTER
from confide.guest.mesh.one_mesh import GONE_AFTER
from confide.host.manifest_builder import stamp
from confide.host.runner.qemu import HOST_IN_GUEST
from confide.host.runner.vm import Machine
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.roles import Role
from tests.support.lying_relay import LyingRelay, honest, with_cas_of

BOOT_SECONDS = 300
QUOTE_SECONDS = 60  # an emulated machine's proof and its verification, on a busy host


class Mesh:
    """A secret service that reaches its coordinator through a relay; two coordinators."""

    def __init__(self, build: Build, folder: Path, stack: ExitStack) -> None:
        self._build, self._folder, self._stack = build, folder, stack
        self.manifest = stamp(build.manifest.read_bytes(), now=int(time.time()))
        self.genuine = self._start("first", Role.COORDINATOR)
        self.other = self._start("second", Role.COORDINATOR)
        self.relay = stack.enter_context(LyingRelay(self.genuine.url))
        # With its first answer, the relay needs another coordinator's CAs.
        for coordinator in (self.genuine, self.other):
            coordinator.wait_ready(BOOT_SECONDS)
            set_manifest(coordinator.url, self.manifest, offline())
        self.relay.alter = with_cas_of(self.other.url)
        address = f"http://{HOST_IN_GUEST}:{self.relay.port}"
        self.node = self._start("node", Role.SECRET_SERVICE, address)

    def _start(self, name: str, role: Role, coordinator: str = "") -> Machine:
        machine = Machine(
            self._build.images / role,
            role,
            config=ConfigDisk(sha256(self.manifest).digest(), coordinator),
            run_dir=self._folder / name,
            tools=self._build.tools,
        )
        return self._stack.enter_context(machine)

    def said(self) -> str:
        console = self.node.console
        return console.read_text(errors="replace") if console.exists() else ""


@pytest.fixture(scope="module")
def mesh(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with ExitStack() as stack:
        yield Mesh(build, tmp_path_factory.mktemp("mesh"), stack)


def wait_until(what: Callable[[], bool], seconds: float, mesh: Mesh) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, mesh.node.console_tail()
        time.sleep(0.5)


def test_relayed_evidence_with_other_cas_is_refused_by_name(mesh: Mesh) -> None:
    """Fresh and genuine, but the CAs beside it are another coordinator's."""
    wait_until(lambda: "'quote binding' failed" in mesh.said(), BOOT_SECONDS, mesh)
    assert "joined the mesh" not in mesh.said()
    assert not {"/v1/challenge", "/v1/join"} & set(mesh.relay.asked)


def test_the_same_machine_joins_once_the_host_only_carries(mesh: Mesh) -> None:
    mesh.relay.alter = honest
    mesh.node.wait_ready(BOOT_SECONDS)
    assert "confide: joined the mesh as secret-service" in mesh.said()


def test_it_powers_off_when_its_mesh_is_gone(mesh: Mesh) -> None:
    """Its address leads to another genuine coordinator of the same manifest."""
    mesh.relay.target = mesh.other.url
    seconds = GONE_AFTER + 3 * (LOOK_AFTER + QUOTE_SECONDS)
    wait_until(lambda: not mesh.node.running, seconds, mesh)
    assert "confide: this machine ends: the mesh is gone" in mesh.said()
    assert mesh.said().count("joined the mesh") == 1
