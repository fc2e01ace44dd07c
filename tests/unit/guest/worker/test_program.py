"""The worker's program: what it is made of in each role, and what its health says of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from confide.errors import UnavailableError
from confide.guest.mesh.gpus import AttestedGpus
from confide.guest.mesh.join import Membership
from confide.guest.worker import __main__ as program
from confide.guest.worker.engine.engines import Engines
from confide.guest.worker.engine.models_file import ServedModel, encode_models
from confide.guest.worker.engine.states import EngineState, EngineStates
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.roles import Role


class NodeWithoutMesh:
    """Stands for mesh.join.Node: notes how it was made, and is a member when a test says so."""

    def __init__(self, role: Role, _attester: object, _client: object, **options: Any) -> None:
        self.role, self.options = role, options
        self.state = self.reason = "starting"
        self.member: Membership | None = None

    def start(self) -> None:
        pass

    def membership(self) -> Membership:
        if self.member is None:
            raise UnavailableError("not-attested", "no membership")
        return self.member


class Program:
    """`create_service` with everything around it replaced."""

    def __init__(
        self, folder: Path, patch: pytest.MonkeyPatch, role: Role, manifest: bytes
    ) -> None:
        self.states_file = folder / "states.json"
        models_file = folder / "models.json"
        served = [ServedModel(name, folder, bytes(32), ("chat",)) for name in ("second", "tiny")]
        models_file.write_bytes(encode_models(manifest, served))
        nodes: list[NodeWithoutMesh] = []

        def node(*arguments: Any, **options: Any) -> NodeWithoutMesh:
            nodes.append(NodeWithoutMesh(*arguments, **options))
            return nodes[0]

        patch.setattr(program, "read_role", lambda: role)
        patch.setattr(program, "read_config", lambda: ConfigDisk(bytes(32), "http://coordinator"))
        patch.setattr(program, "read_binding", lambda: manifest)
        patch.setattr(program, "MODELS_FILE", models_file)
        patch.setattr(program, "detect_attester", lambda: None)
        patch.setattr(program, "Node", node)
        patch.setattr(program, "Engines", lambda models: Engines(models, self.states_file))
        self.http = program.create_service().app.test_client()  # type: ignore[attr-defined]
        self.node = nodes[0]

    def health(self) -> Any:
        return self.http.get("/healthz").get_json()


@pytest.mark.parametrize("role", [Role.WORKER_CPU, Role.WORKER_GPU])
def test_only_a_worker_with_gpus_attests_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: Role
) -> None:
    made = Program(tmp_path, monkeypatch, role, bytes(32))
    assert made.node.role == made.health()["role"] == role
    assert isinstance(made.node.options["gpus"], AttestedGpus) == (role == Role.WORKER_GPU)
    assert made.node.options["models"] == ("second", "tiny")
    assert made.node.options["binding"] == bytes(32)


def test_health_says_the_first_thing_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, membership: Membership
) -> None:
    made = Program(tmp_path, monkeypatch, Role.WORKER_CPU, membership.manifest.sha256)
    starting = {"second": "starting", "tiny": "starting"}
    assert made.health() == {"role": Role.WORKER_CPU, "state": "starting", "models": starting}

    made.node.reason = "gpu-cc-off"
    assert made.health()["models"] == {"second": "gpu-cc-off", "tiny": "gpu-cc-off"}
    made.node.state, made.node.reason = "expired", ""
    assert made.health()["state"] == "expired"

    made.node.member = membership
    assert set(made.health()["models"].values()) == {EngineState.NOT_THERE}

    engines = EngineStates(["second", "tiny"], EngineState.STARTING, made.states_file)
    engines.set("second", EngineState.READY)
    assert made.health()["models"] == {"second": "ready", "tiny": EngineState.STARTING}
    assert made.health()["state"] == EngineState.STARTING

    engines.set("tiny", EngineState.READY)
    assert made.health()["state"] == "ready"


def test_no_model_is_ready_whose_disk_another_manifest_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, membership: Membership
) -> None:
    made = Program(tmp_path, monkeypatch, Role.WORKER_CPU, bytes(32))
    made.node.member = membership
    EngineStates(["second", "tiny"], EngineState.READY, made.states_file)
    assert set(made.health()["models"].values()) == {"other-manifest"}
