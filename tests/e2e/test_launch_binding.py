"""A machine is bound to one manifest before it has a network, or it powers off.

It meets nobody of another manifest: neither a coordinator as a node, nor a node as a coordinator.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest

from confide.client.collateral.finder import offline
from confide.client.service import set_manifest
from confide.commands.system import Build
from confide.encoding.canonical import json_encode
from confide.errors import ConfideError, PolicyError, UnavailableError
from confide.host.manifest_builder import stamp
from confide.host.runner.qemu import HOST_IN_GUEST
from confide.host.runner.vm import Machine
from confide.net.coordinator_client import CoordinatorClient
from confide.protocol.binding import join_report_data
from confide.protocol.collateral import Bundle
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.coordinator import JoinRequest
from confide.protocol.gpu import gpu_binding
from confide.protocol.launch import BINDING_PCR, binding_pcr
from confide.protocol.manifest import Manifest
from confide.verify.evidence import verify_evidence
from confide.verify.parsed import ParsedEvidence
from tests.support.alone import simulated_coordinator
from tests.support.attested import quoted_pcrs
from tests.support.console import lines, said
from tests.support.lying_relay import LyingRelay, ask, honest, with_manifest
from tests.support.refused import wait_refused
from tests.support.simulated_machine import manifest_value
from tests.support.verdicts import failed

BOOT_SECONDS = 600
JOINING = {"/v1/challenge", "/v1/join"}


@pytest.fixture(scope="module")
def manifest(build: Build) -> bytes:
    return stamp(build.manifest.read_bytes(), now=int(time.time()))


@pytest.fixture(scope="module")
def other(build: Build) -> bytes:
    """Another manifest of the same images, as valid as the first."""
    return stamp(build.manifest.read_bytes(), now=int(time.time()) - 1)


@pytest.fixture(scope="module")
def nodes_manifest(manifest: bytes) -> bytes:
    """Another manifest, which accepts a forged coordinator, too: one that its author controls."""
    value = json.loads(manifest)
    value["roles"]["coordinator"]["vtpm"] += manifest_value()["roles"]["coordinator"]["vtpm"]
    return json_encode(value)


class Relay(LyingRelay):
    """Between a node and its coordinator. With `genuine`, joins go to that one instead.

    They then name the manifest of that one: all that a host can change of a join, because the
    machine's evidence binds the rest.
    """

    genuine = ""

    def __init__(self, target: str, manifest: bytes) -> None:
        super().__init__(target)
        self._manifest_sha256 = sha256(manifest).digest()
        self.joins: list[JoinRequest] = []

    def carry(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if not self.genuine or path not in JOINING:
            return super().carry(method, path, body)
        if path == "/v1/join":
            self.joins.append(JoinRequest.parse(body))
            body = replace(self.joins[-1], manifest_sha256=self._manifest_sha256).encode()
        return ask(self.genuine, method, path, body)


@dataclass(frozen=True)
class Machines:
    """A coordinator that has no manifest yet, and a node that was launched for another one."""

    coordinator: Machine
    node: Machine
    relay: Relay


@pytest.fixture(scope="module")
def machines(
    build: Build,
    manifest: bytes,
    nodes_manifest: bytes,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Machines]:
    """The tests of this file follow each other."""
    folder = tmp_path_factory.mktemp("bound")

    def machine(role: str, config: ConfigDisk) -> Machine:
        return Machine(
            build.images / role, role, config=config, run_dir=folder / role, tools=build.tools
        )

    with (
        machine("coordinator", ConfigDisk(sha256(manifest).digest())) as coordinator,
        Relay(coordinator.url, manifest) as relay,
        machine(
            "secret-service",
            ConfigDisk(sha256(nodes_manifest).digest(), f"http://{HOST_IN_GUEST}:{relay.port}"),
        ) as node,
    ):
        coordinator.wait_ready(BOOT_SECONDS)
        yield Machines(coordinator, node, relay)


@pytest.fixture(scope="module")
def coordinator(machines: Machines) -> Machine:
    return machines.coordinator


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


# --- a node that was launched for another manifest ----------------------------------------------


def test_a_node_refuses_a_coordinator_of_another_manifest_by_name(
    machines: Machines, manifest: bytes, nodes_manifest: bytes
) -> None:
    wanted, seen = sha256(nodes_manifest).hexdigest(), sha256(manifest).hexdigest()
    line = said(machines.node, "the coordinator has another manifest", BOOT_SECONDS)
    assert f"expected SHA-256 {wanted}" in line and f"seen SHA-256 {seen}" in line
    assert set(machines.relay.asked) == {"/v1/manifest"}


def test_also_if_its_host_shows_it_the_manifest_that_it_wants(
    machines: Machines, nodes_manifest: bytes
) -> None:
    """Manifests are public. The coordinator's evidence binds its own."""
    machines.relay.alter = with_manifest(nodes_manifest)
    said(machines.node, "'quote binding' failed", BOOT_SECONDS)
    assert not JOINING & set(machines.relay.asked)


def test_the_coordinator_does_not_admit_the_node(
    machines: Machines, manifest: bytes, nodes_manifest: bytes, build: Build, tmp_path: Path
) -> None:
    """A forged coordinator, which the node's manifest accepts, borrows the genuine one's nonces."""
    with simulated_coordinator(tmp_path, nodes_manifest, ()) as forged:
        machines.relay.genuine = machines.coordinator.url
        machines.relay.target = f"http://127.0.0.1:{forged.coordinator.rpartition(':')[2]}"
        machines.relay.alter = honest
        refused = wait_refused(machines.coordinator, machines.node, BOOT_SECONDS)
        mesh_ca = CoordinatorClient(machines.relay.target).mesh().mesh_ca
    [asked] = [join for join in machines.relay.joins if join.evidence == refused.evidence]
    verdict = verify_evidence(
        ParsedEvidence.parse(refused.evidence),
        report_data=join_report_data(
            asked.nonce,
            role=asked.role,
            public_key=asked.public_key,
            kem_public_key=asked.kem_public_key,
            manifest=nodes_manifest,
            models=(),
            mesh_ca=mesh_ca,
            gpus=gpu_binding(()),
        ),
        manifest=Manifest.parse(manifest),
        role=asked.role,
        collateral=Bundle(),
        now=int(time.time()),
    )
    # Genuine in all else: the coordinator also refuses what the evidence binds.
    assert failed(verdict) == ["launch binding"]
    assert "joined the mesh" not in "\n".join(lines(machines.node))
    assert machines.node.running


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
