"""A machine is bound to one manifest before it has a network, or it powers off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from confide.client.collateral.finder import offline
from confide.client.service import set_manifest
from confide.commands.system import Build
from confide.errors import ConfideError, PolicyError, UnavailableError
from confide.host.manifest_builder import stamp
from confide.host.runner.vm import Machine
from confide.net.coordinator_client import CoordinatorClient
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.launch import BINDING_PCR, binding_pcr
from tests.support.attested import quoted_pcrs

BOOT_SECONDS = 300


@pytest.fixture(scope="module")
def manifest(build: Build) -> bytes:
    return stamp(build.manifest.read_bytes(), now=int(time.time()))


@pytest.fixture(scope="module")
def other(build: Build) -> bytes:
    """Another manifest of the same images, as valid as the first."""
    return stamp(build.manifest.read_bytes(), now=int(time.time()) - 1)


@pytest.fixture(scope="module")
def coordinator(
    build: Build, manifest: bytes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A coordinator that has no manifest yet. The tests of this file follow each other."""
    machine = Machine(
        build.images / "coordinator",
        "coordinator",
        config=ConfigDisk(sha256(manifest).digest()),
        run_dir=tmp_path_factory.mktemp("bound"),
        tools=build.tools,
    )
    with machine:
        machine.wait_ready(BOOT_SECONDS)
        yield machine


def test_the_console_and_the_evidence_say_what_it_is_bound_to(
    coordinator: Machine, manifest: bytes
) -> None:
    binding = sha256(manifest).digest()
    said = coordinator.console.read_text(errors="replace")
    assert f"confide: this machine is bound to the manifest {binding.hex()}" in said
    assert quoted_pcrs(coordinator.url)[BINDING_PCR] == binding_pcr(binding)


def test_the_first_to_bring_another_manifest_is_refused(coordinator: Machine, other: bytes) -> None:
    for data in (other, b"no manifest at all"):
        with pytest.raises(PolicyError) as caught:
            CoordinatorClient(coordinator.url).set_manifest(data)
        assert caught.value.code == "wrong-manifest"
    assert coordinator.wait_ready(BOOT_SECONDS)["state"] == "no-manifest"


def test_a_client_does_not_even_try_with_another_manifest(
    coordinator: Machine, other: bytes
) -> None:
    with pytest.raises(ConfideError, match="launch binding"):
        set_manifest(coordinator.url, other, offline())


def test_the_right_manifest_is_taken(coordinator: Machine, manifest: bytes) -> None:
    set_manifest(coordinator.url, manifest, offline())
    assert coordinator.wait_ready(BOOT_SECONDS)["state"] == "ready"


def test_a_machine_without_a_config_disk_powers_off(build: Build, tmp_path: Path) -> None:
    machine = Machine(
        build.images / "coordinator",
        "coordinator",
        config=None,
        run_dir=tmp_path / "run",
        tools=build.tools,
    )
    with machine, pytest.raises(UnavailableError) as caught:
        machine.wait_ready(BOOT_SECONDS)
    said = "confide: boot failed: this machine has no config disk"
    assert caught.value.seen.startswith(f"power off: {said}")
    assert "Dependency failed for confide-network.service" in caught.value.seen
