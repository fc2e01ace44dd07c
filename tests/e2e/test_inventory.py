"""A booted machine that was launched for no manifest attests, and does nothing else.

A coordinator's config disk is the one of `confide run --inventory`, which names nothing. A worker's
host offers all that it needs: a coordinator, a secret service and a model disk. The GPU worker is
in tests/gpu_image/test_reach.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from confide.commands.cli import main
from confide.commands.status import ExitStatus
from confide.commands.system import Build
from confide.host.inventory import Inventory
from confide.host.runner.qemu import HOST_IN_GUEST
from confide.host.runner.vm import Machine
from confide.protocol.binding import inventory_report_data
from confide.protocol.collateral import Bundle
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.launch import UNBOUND
from confide.protocol.manifest import Manifest
from confide.protocol.roles import Role
from confide.verify.evidence import verify_evidence
from confide.verify.parsed import ParsedEvidence
from tests.support.peer import Peer, peers
from tests.support.verdicts import failed

ROOT = Path(__file__).parents[2]
BOOT_SECONDS = 300
STAY_SECONDS = 20


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    """What the config disk names as coordinator and secret service. It counts who connects."""
    with peers() as start:
        yield start()


@pytest.fixture(scope="module", params=[Role.COORDINATOR, Role.WORKER_CPU])
def machine(
    request: pytest.FixtureRequest,
    build: Build,
    peer: Peer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Machine]:
    """A machine in inventory that is offered nothing, or everything."""
    role: Role = request.param
    config, disks = ConfigDisk(UNBOUND), []
    if role == Role.WORKER_CPU:
        address = f"://{HOST_IN_GUEST}:{peer.port}"
        config = ConfigDisk(UNBOUND, f"http{address}", f"https{address}", (build.model_name,))
        disks = [build.model / "model.disk"]
    with Machine(
        build.images / role,
        role,
        config=config,
        model_disks=disks,
        run_dir=tmp_path_factory.mktemp("inventory"),
        tools=build.tools,
    ) as machine:
        assert machine.wait_ready(BOOT_SECONDS) == {"state": "inventory"}
        yield machine


def test_its_evidence_is_genuine_and_bound_to_nothing(machine: Machine, build: Build) -> None:
    inventory = Inventory.fetch(machine.url)

    def judged(binding: bytes | None) -> list[str]:
        verdict = verify_evidence(
            ParsedEvidence(inventory.evidence),
            report_data=inventory_report_data(inventory.nonce),
            manifest=Manifest.parse(build.manifest.read_bytes()),
            role=machine.role,
            collateral=Bundle(),
            now=int(time.time()),
            binding=binding,
        )
        return failed(verdict)

    assert judged(UNBOUND) == []
    assert judged(None) == ["launch binding"]


def test_no_door_of_a_role_is_open(machine: Machine) -> None:
    for path in ("/v1/models", "/v1/manifest", "/v1/join", "/v1/keys", "/v1/chat/completions"):
        assert requests.get(f"{machine.url}{path}", timeout=30).status_code == 404
        assert requests.post(f"{machine.url}{path}", data=b"", timeout=30).status_code == 404


def test_it_stays_as_it_is(machine: Machine, peer: Peer) -> None:
    """It joins nothing, mounts nothing, starts no engine, and does not end."""
    time.sleep(STAY_SECONDS)
    assert machine.wait_ready(BOOT_SECONDS) == {"state": "inventory"}
    assert peer.connections == 0
    said = machine.console.read_text(errors="replace")
    assert "confide: this machine is bound to no manifest" in said
    assert "confide-disks:" not in said and "confide-engine:" not in said


def test_a_vtpm_gets_into_no_list(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = ["--references", str(ROOT / "release/references.json")]
    release += ["--policy", str(ROOT / "release/policy.json")]
    site = tmp_path / "site.json"
    assert main(["site", "add", machine.url, *release, "--site", str(site)]) == ExitStatus.FAILED
    assert "no-machine-identity" in capsys.readouterr().err
    assert not site.exists()
