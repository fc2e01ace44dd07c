"""A worker opens the model that the manifest names, or serves nothing."""

from __future__ import annotations

import time
from pathlib import Path

import requests

from confide.commands.system import Build, System
from confide.host.runner.vm import Machine
from confide.protocol.configdisk import ConfigDisk

BOOT_SECONDS = 240


def worker_with(build: Build, system: System, disk: Path, run_dir: Path) -> Machine:
    """A worker of the running service with this model disk, not started yet."""
    config = ConfigDisk(
        system.binding,
        system.machine("coordinator").guest_url(8000),
        system.machine("secret-service").guest_url(8443, scheme="https"),
        (build.model_name,),
    )
    return Machine(
        build.images / "worker-cpu",
        "worker-cpu",
        run_dir=run_dir,
        tools=build.tools,
        config=config,
        model_disks=[disk],
    )


def said(worker: Machine, words: str, seconds: float = BOOT_SECONDS) -> str:
    """The first line with these words on its console, once it is there."""
    console = ""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        console = worker.console.read_text(errors="replace") if worker.console.exists() else ""
        for line in console.splitlines():
            if words in line:
                return line
        time.sleep(0.5)
    raise AssertionError(f"the worker never said {words!r}:\n{console}")


def refused(build: Build, system: System, disk: Path, run_dir: Path) -> str:
    """Boot a worker with this model disk; what its console says once it has refused it."""
    with worker_with(build, system, disk, run_dir) as worker:
        line = said(worker, "root hash")
        assert not serves(worker)
        return line


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
    assert build.model_name in refused(build, system, disk, tmp_path / "run")


def test_another_model_disk(build: Build, system: System, tmp_path: Path) -> None:
    """As long and as well formed as the right one, for all that the host can tell."""
    disk = tmp_path / "model.disk"
    disk.write_bytes(bytes((build.model / "model.disk").stat().st_size))
    assert build.model_name in refused(build, system, disk, tmp_path / "run")


def test_truncated_model_disk(build: Build, system: System, tmp_path: Path) -> None:
    disk = tmp_path / "model.disk"
    disk.write_bytes((build.model / "model.disk").read_bytes()[:-4096])
    line = refused(build, system, disk, tmp_path / "run")
    assert build.model_name in line
    assert "truncated" in line


def test_block_that_changes_after_the_disk_was_accepted(
    build: Build, system: System, tmp_path: Path
) -> None:
    """A host may show the right disk first, and other weights when the engine reads them."""
    disk = tmp_path / "model.disk"
    data = (build.model / "model.disk").read_bytes()
    disk.write_bytes(data)
    weights = data.index(b'"lm_head.weight"')
    with worker_with(build, system, disk, tmp_path / "run") as worker:
        said(worker, "each read is verified")
        with disk.open("r+b") as file:
            file.seek(weights)
            file.write(b"#")
        line = said(worker, "has a wrong block")
        assert build.model_name in line
        # What was served through it has ended, and nothing begins.
        time.sleep(5)
        assert not serves(worker)
