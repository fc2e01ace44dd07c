"""Joining and staying joined: what a node accepts, and when it stops being a member."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from confide.errors import (
    ConfideError,
    ConfigError,
    FormatError,
    PolicyError,
    UnavailableError,
    VerificationError,
)
from confide.guest.coordinator.ca import issue_leaf
from confide.guest.coordinator.domain import Coordinator
from confide.guest.mesh.config import read_config
from confide.guest.mesh.join import RENEW_AFTER, Node
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.coordinator import JoinReply, JoinRequest, MeshReply
from tests.support.local_coordinator import LocalCoordinator
from tests.support.mesh_nodes import BINDING, MANIFEST, new_coordinator, new_node
from tests.support.simulated_machine import MODEL, NOW, Clock, SimulatedMachine, current_manifest


def test_join(node: Node) -> None:
    assert node.state == "starting"
    with pytest.raises(UnavailableError, match="not a member"):
        node.membership()
    joined = node.join()
    assert node.state == "ready"
    assert node.membership() is joined
    assert joined.manifest.encode() == MANIFEST
    assert (joined.role, joined.models, joined.not_after) == ("worker-cpu", (MODEL,), NOW + 3600)


def test_signature_is_by_the_certified_key(node: Node) -> None:
    with pytest.raises(UnavailableError):
        node.sign(b"data")
    node.join()
    signature = node.sign(b"data")
    node.membership().private_key.public_key().verify(signature, b"data", ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("which", ["wall clock", "monotonic clock"])
def test_membership_expires(node: Node, clock: Clock, monotonic: Clock, which: str) -> None:
    node.join()
    late = clock if which == "wall clock" else monotonic
    late.now += 3599
    assert node.state == "ready"
    late.now += 1
    assert node.state == "expired"
    with pytest.raises(UnavailableError):
        node.membership()
    with pytest.raises(UnavailableError):
        node.sign(b"data")


def test_renewal_gives_a_new_certificate_for_the_same_key(
    node: Node, clock: Clock, monotonic: Clock
) -> None:
    first = node.join()
    clock.now += RENEW_AFTER
    monotonic.now += RENEW_AFTER
    second = node.join()
    assert second.certificate != first.certificate
    assert second.private_key is first.private_key
    assert second.not_after == first.not_after + RENEW_AFTER
    assert node.membership() is second


def test_failed_renewal_keeps_the_old_certificate_until_it_ends(
    node: Node, relay: LocalCoordinator, clock: Clock
) -> None:
    first = node.join()

    def gone(_: MeshReply) -> MeshReply:
        raise UnavailableError("gone", "gone")

    relay.on_mesh = gone
    with pytest.raises(UnavailableError, match="gone"):
        node.join()
    assert node.membership() is first
    clock.now += 3600
    assert node.state == "expired"


def refuses(node: Node, kind: type[ConfideError], code: str) -> None:
    with pytest.raises(kind) as caught:
        node.join()
    assert caught.value.code == code
    assert node.state == "starting"


def test_certificate_of_another_mesh(node: Node, relay: LocalCoordinator, clock: Clock) -> None:
    other = new_coordinator(clock).mesh()
    relay.on_reply = lambda reply: replace(reply, mesh_ca=other.mesh_ca, root_ca=other.root_ca)
    refuses(node, VerificationError, "mesh-changed")


class LawlessCoordinator(Coordinator):
    """It certifies whatever the test says, with the mesh CA that its evidence binds."""

    changes: Mapping[str, object] = MappingProxyType({})

    def join(self, request: JoinRequest) -> JoinReply:
        mesh = self._require_mesh()
        fields = {
            "role": request.role,
            "models": request.models,
            "public_key": request.public_key,
            "kem_public_key": request.kem_public_key,
            "now": NOW,
        } | dict(self.changes)
        leaf = issue_leaf(mesh.authority, **fields)  # type: ignore[arg-type]
        return JoinReply(leaf, mesh.authority.der, self._root.der)


def lawless(clock: Clock, changes: Mapping[str, object]) -> LocalCoordinator:
    machine = SimulatedMachine("coordinator")
    coordinator = LawlessCoordinator(machine, binding=BINDING, now=clock)
    coordinator.set_manifest(MANIFEST)
    coordinator.changes = changes
    return LocalCoordinator(coordinator)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"role": "secret-service"}, "wrong-role"),
        ({"models": ()}, "wrong-certificate"),
        ({"kem_public_key": b"kem"}, "wrong-certificate"),
        ({"now": NOW - 7200}, "not-valid-now"),
        ({"now": NOW + 7200}, "not-valid-now"),
    ],
)
def test_certificate_that_was_not_asked_for(
    clock: Clock, monotonic: Clock, changes: dict[str, object], code: str
) -> None:
    node = new_node(lawless(clock, changes), clock, monotonic)
    refuses(node, VerificationError, code)


def test_lawful_reply_of_that_coordinator_is_accepted(clock: Clock, monotonic: Clock) -> None:
    """So that the refusals above are for the reason they name."""
    node = new_node(lawless(clock, {}), clock, monotonic)
    node.join()
    assert node.state == "ready"


def test_role_that_the_manifest_does_not_have(
    relay: LocalCoordinator, clock: Clock, monotonic: Clock
) -> None:
    machine = SimulatedMachine("worker-cpu")
    node = Node("worker-gpu", machine, relay, binding=BINDING, now=clock, monotonic=monotonic)
    refuses(node, PolicyError, "unknown-role")
    assert machine.quotes == 0


def test_background_thread_joins_as_soon_as_there_is_a_manifest(
    capfd: pytest.CaptureFixture[str],
) -> None:
    now, manifest = Clock(int(time.time())), current_manifest()
    machine = SimulatedMachine("coordinator", manifest=manifest, now=int(now()))
    coordinator = Coordinator(machine, binding=machine.binding, now=now)
    node = Node(
        "worker-cpu",
        SimulatedMachine("worker-cpu", manifest=manifest, now=int(now())),
        LocalCoordinator(coordinator),
        binding=sha256(manifest).digest(),
        models=(MODEL,),
    )
    node.start()
    deadline = time.monotonic() + 10
    while node.reason != "no-manifest":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    coordinator.set_manifest(manifest)
    while node.state != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while node.reason:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "no manifest" in lines[0]
    assert "joined the mesh as worker-cpu" in lines[1]


def test_config_disk(tmp_path: Path) -> None:
    copy = tmp_path / "config"
    with pytest.raises(ConfigError) as caught:
        read_config(copy)
    assert caught.value.code == "no-config"
    disk = ConfigDisk(bytes(32), "http://10.0.2.2:1", ("https://10.0.2.2:2",), (MODEL,))
    copy.write_bytes(disk.encode())
    assert read_config(copy) == disk
    for hostile in (disk.encode()[:-1], disk.encode() + b"\0", b"\xff" * 65536, b""):
        copy.write_bytes(hostile)
        with pytest.raises(FormatError):
            read_config(copy)


def test_config_disk_of_a_node_names_a_coordinator(tmp_path: Path) -> None:
    (tmp_path / "config").write_bytes(ConfigDisk(bytes(32)).encode())
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "config")
    assert caught.value.code == "no-coordinator"


def test_the_words_of_a_peer_are_no_state(
    node: Node, relay: LocalCoordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    """A peer's error names its own code: "ready" in a worker's health would mean that it serves."""

    def refuse(_: MeshReply) -> MeshReply:
        raise UnavailableError("ready", "x" * 100_000)

    relay.on_mesh = refuse
    node.step()
    assert node.reason == "peer-error"
    assert len(capsys.readouterr().err) < 1000
