"""A worker opens the model that the manifest names, or serves nothing."""

from __future__ import annotations

import time
from pathlib import Path

import requests
from confide.runner.system import Build, System
from confide.runner.vm import Machine

BOOT_SECONDS = 240


def refused(build: Build, system: System, disk: Path, run_dir: Path) -> str:
    """Boot a worker with this model disk; what its console says once it has refused it."""
    config = {
        "coordinator": system.machine("coordinator").guest_url(8000),
        "secret_service": system.machine("secret-service").guest_url(8443, scheme="https"),
        "models": [build.model_name],
    }
    worker = Machine(
        build.images / "worker-cpu",
        "worker-cpu",
        run_dir=run_dir,
        tools=build.tools,
        config=config,
        model_disks=[disk],
    )
    with worker:
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            console = worker.console.read_text(errors="replace") if worker.console.exists() else ""
            lines = [line for line in console.splitlines() if "root hash" in line]
            if lines:
                assert not serves(worker)
                return lines[0]
            time.sleep(1)
    raise AssertionError(f"the worker said nothing about its disk:\n{console}")


def serves(worker: Machine) -> bool:
    """Whether anything answers 200 on the worker's port."""
    try:
        return requests.get(f"{worker.url}/healthz", timeout=5).status_code == 200
    except requests.RequestException:
        return False


def test_changed_byte_in_the_model(build: Build, system: System, tmp_path: Path) -> None:
    data = bytearray((build.model / "model.disk").read_bytes())
    data[1024] ^= 1  # the file system's superblock
    disk = tmp_path / "model.disk"
    disk.write_bytes(data)
    said = refused(build, system, disk, tmp_path / "run")
    assert build.model_name in said


def test_another_model_disk(build: Build, system: System, tmp_path: Path) -> None:
    """As long and as well formed as the right one, for all that the host can tell."""
    disk = tmp_path / "model.disk"
    disk.write_bytes(bytes((build.model / "model.disk").stat().st_size))
    said = refused(build, system, disk, tmp_path / "run")
    assert build.model_name in said
