"""The worker's program: what it is made of in each role, and what its health says of models."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from confide.errors import UnavailableError
from confide.guest.mesh.gpus import AttestedGpus
from confide.guest.mesh.join import Membership
from confide.guest.mesh.kem import KemKeys
from confide.guest.worker import __main__ as program
from confide.guest.worker.engine.engines import Engines
from confide.guest.worker.engine.states import EngineState, EngineStates
from confide.net import loops
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.manifest import Manifest
from confide.protocol.roles import Role


class NodeWithoutMesh:
    """Stands for mesh.join.Node: notes how it was made, and is a member when a test says so."""

    def __init__(self, role: Role, _attester: object, _client: object, **options: Any) -> None:
        self.role, self.options = role, options
        self.state = self.reason = "starting"
        self.member: Membership | None = None
        self.kem = KemKeys(time.monotonic)

    def start(self) -> None:
        pass

    def membership(self) -> Membership:
        if self.member is None:
            raise UnavailableError("not-attested", "no membership")
        return self.member


class Program:
    """`create_service` with everything around it replaced."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, role: Role) -> None:
        self.states_file = folder / "states.json"
        self.models_file = folder / "models.json"
        self.handed_over: list[bytes] = []
        nodes: list[NodeWithoutMesh] = []

        def node(*arguments: Any, **options: Any) -> NodeWithoutMesh:
            nodes.append(NodeWithoutMesh(*arguments, **options))
            return nodes[0]

        config = ConfigDisk(bytes(32), "http://coordinator", models=("second", "tiny"))
        patch.setattr(program, "read_role", lambda: role)
        patch.setattr(program, "read_config", lambda: config)
        patch.setattr(program, "read_binding", lambda: bytes(32))
        patch.setattr(program, "MODELS_FILE", self.models_file)
        patch.setattr(program, "POLL_SECONDS", 0.01)
        patch.setattr(program, "detect_attester", lambda: None)
        patch.setattr(program, "Node", node)
        patch.setattr(program, "hand_over", lambda m: self.handed_over.append(m.encode()))
        patch.setattr(program, "Engines", lambda models: Engines(models, self.states_file))
        self.http = program.create_service().app.test_client()  # type: ignore[attr-defined]
        self.node = nodes[0]

    def health(self) -> Any:
        return self.http.get("/healthz").get_json()

    def join(self, membership: Membership) -> None:
        self.node.member, self.node.state, self.node.reason = membership, "ready", ""
        deadline = time.monotonic() + 10
        while not self.handed_over:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("role", [Role.WORKER_CPU, Role.WORKER_GPU])
def test_only_a_worker_with_gpus_attests_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: Role
) -> None:
    made = Program(tmp_path, monkeypatch, role)
    assert made.node.role == made.health()["role"] == role
    assert isinstance(made.node.options["gpus"], AttestedGpus) == (role == Role.WORKER_GPU)
    assert made.node.options["models"] == ("second", "tiny")
    assert made.node.options["binding"] == bytes(32)


def test_manifest_is_handed_over_once_and_not_before_the_machine_has_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, membership: Membership
) -> None:
    made = Program(tmp_path, monkeypatch, Role.WORKER_CPU)
    time.sleep(0.1)
    assert not made.handed_over
    made.join(membership)
    time.sleep(0.1)
    assert made.handed_over == [membership.manifest.encode()]


def test_health_says_the_first_thing_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, membership: Membership
) -> None:
    made = Program(tmp_path, monkeypatch, Role.WORKER_CPU)
    starting = {"second": "starting", "tiny": "starting"}
    assert made.health() == {"role": Role.WORKER_CPU, "state": "starting", "models": starting}

    made.node.reason = "gpu-cc-off"
    assert made.health()["models"] == {"second": "gpu-cc-off", "tiny": "gpu-cc-off"}
    made.node.state, made.node.reason = "expired", ""
    assert made.health()["state"] == "expired"

    made.join(membership)
    assert set(made.health()["models"].values()) == {EngineState.NOT_OPEN}
    made.models_file.touch()
    assert set(made.health()["models"].values()) == {EngineState.NOT_THERE}

    engines = EngineStates(["second", "tiny"], EngineState.STARTING, made.states_file)
    engines.set("second", EngineState.READY)
    assert made.health()["models"] == {"second": "ready", "tiny": EngineState.STARTING}
    assert made.health()["state"] == EngineState.STARTING

    engines.set("tiny", EngineState.READY)
    assert made.health()["state"] == "ready"


def test_engines_that_claim_to_be_ready_before_the_disks_are_open_get_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, membership: Membership
) -> None:
    made = Program(tmp_path, monkeypatch, Role.WORKER_CPU)
    made.join(membership)
    EngineStates(["second", "tiny"], EngineState.READY, made.states_file)
    assert set(made.health()["models"].values()) == {EngineState.NOT_OPEN}


def test_a_manifest_that_cannot_be_handed_over_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, membership: Membership
) -> None:
    """A full file system, say. Else the worker would wait for its models for ever."""
    monkeypatch.setattr(loops, "FIRST_PAUSE", 0.001)
    made = Program(tmp_path, monkeypatch, Role.WORKER_CPU)
    failures = [OSError("no space"), RecursionError()]

    def hand_over(manifest: Manifest) -> None:
        if failures:
            raise failures.pop()
        made.handed_over.append(manifest.encode())

    monkeypatch.setattr(program, "hand_over", hand_over)
    made.join(membership)
    assert not failures
