"""A worker opens the model that the manifest names, or serves nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from confide.commands.system import Build
from confide.host.runner.qemu import HOST_IN_GUEST
from confide.host.runner.vm import Machine
from confide.protocol.configdisk import ConfigDisk
from confide.protocol.coordinator import MeshReply
from confide.protocol.manifest import Manifest
from tests.support.alone import manifest_of, simulated_coordinator
from tests.support.console import lines, said
from tests.support.lying_relay import LyingRelay
from tests.support.simulated_disks import model_disk

BOOT_SECONDS = 600
ENGINE_SECONDS = 1200  # until an engine reads the weights, in emulation on a busy computer
POWER_OFF_SECONDS = 120


@pytest.fixture(scope="module")
def member(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfigDisk]:
    """The config disk of a worker that can join."""
    folder = tmp_path_factory.mktemp("coordinator")
    with simulated_coordinator(folder, genuine_manifest(build), [build.model_name]) as config:
        yield config


def genuine_manifest(build: Build) -> bytes:
    return manifest_of([build.images / "coordinator", build.images / "worker-cpu"], build.model)


def worker_with(build: Build, config: ConfigDisk, disk: Path, run_dir: Path) -> Machine:
    """A worker with this model disk, not started yet."""
    return Machine(
        build.images / "worker-cpu",
        "worker-cpu",
        run_dir=run_dir,
        tools=build.tools,
        config=config,
        model_disks=[disk],
    )


def ended(worker: Machine, seconds: float = POWER_OFF_SECONDS) -> bool:
    """Whether the machine powers itself off in this time."""
    deadline = time.monotonic() + seconds
    while worker.running and time.monotonic() < deadline:
        time.sleep(0.5)
    return not worker.running


def refused(build: Build, config: ConfigDisk, disk: Path, run_dir: Path) -> str:
    """Boot a worker with this model disk; what its console says before the machine powers off."""
    with worker_with(build, config, disk, run_dir) as worker:
        line = said(worker, "root hash", BOOT_SECONDS)
        assert ended(worker)
        return line


def health(worker: Machine) -> tuple[int, dict[str, Any]]:
    """Status and content of the worker's health; (0, {}) without an answer."""
    try:
        answer = requests.get(f"{worker.url}/healthz", timeout=5)
        return answer.status_code, answer.json()
    except requests.RequestException:
        return 0, {}


def test_changed_byte_in_the_model(build: Build, member: ConfigDisk, tmp_path: Path) -> None:
    data = bytearray((build.model / "model.disk").read_bytes())
    data[1024] ^= 1  # the file system's superblock
    disk = tmp_path / "model.disk"
    disk.write_bytes(data)
    assert build.model_name in refused(build, member, disk, tmp_path / "run")


def test_another_disk_once_the_machine_has_joined(
    build: Build, member: ConfigDisk, tmp_path: Path
) -> None:
    """Up to then the disk is the right one, and no longer when it is opened."""
    disk = tmp_path / "model.disk"
    right = (build.model / "model.disk").read_bytes()
    disk.write_bytes(right)

    def swap(path: str, answer: bytes) -> bytes:
        if path == "/v1/join":
            with disk.open("r+b") as file:
                file.write(bytes(len(right)))
        return answer

    port = member.coordinator.rpartition(":")[2]
    with LyingRelay(f"http://127.0.0.1:{port}", swap) as relay:
        config = replace(member, coordinator=f"http://{HOST_IN_GUEST}:{relay.port}")
        with worker_with(build, config, disk, tmp_path / "run") as worker:
            assert build.model_name in said(worker, "root hash", BOOT_SECONDS)
            assert ended(worker)
            assert "confide-disks: wrong-model-disk: " in worker.cause()
            printed = "\n".join(lines(worker))
    assert printed.index("joined the mesh") < printed.index("wrong-model-disk")


def test_truncated_model_disk(build: Build, member: ConfigDisk, tmp_path: Path) -> None:
    disk = tmp_path / "model.disk"
    disk.write_bytes((build.model / "model.disk").read_bytes()[:-4096])
    line = refused(build, member, disk, tmp_path / "run")
    assert build.model_name in line
    assert "truncated" in line


@pytest.mark.long
def test_block_that_changes_after_the_disk_was_accepted(
    build: Build, member: ConfigDisk, tmp_path: Path
) -> None:
    """A host may show the right disk first, and other weights when the engine reads them."""
    disk = tmp_path / "model.disk"
    data = (build.model / "model.disk").read_bytes()
    disk.write_bytes(data)
    weights = data.index(b'"lm_head.weight"')
    with worker_with(build, member, disk, tmp_path / "run") as worker:
        said(worker, "each read is verified", BOOT_SECONDS)
        with disk.open("r+b") as file:
            file.seek(weights)
            file.write(b"#")
        line = said(worker, "has a wrong block", ENGINE_SECONDS)
        assert build.model_name in line
        # What was served through it has ended, with the machine.
        assert ended(worker)


def test_manifest_of_a_stranger_mounts_nothing(build: Build, tmp_path: Path) -> None:
    """The network is the host's: it answers first, with a manifest that names its own disk."""
    crafted, disk = model_disk(build.model_name)
    (tmp_path / "model.disk").write_bytes(disk)
    genuine = Manifest.parse(genuine_manifest(build))
    hostile = replace(genuine, models=(crafted,))
    answer = MeshReply(hostile.encode(), b"no CA", b"no CA").encode()
    with answering(answer) as (url, asked):
        config = ConfigDisk(genuine.sha256, url, f"https://{HOST_IN_GUEST}:9", (build.model_name,))
        with worker_with(build, config, tmp_path / "model.disk", tmp_path / "run") as worker:
            assert asked.wait(BOOT_SECONDS)
            time.sleep(10)
            status, body = health(worker)
            printed = lines(worker)
    assert status == 503
    assert body["models"].keys() == {build.model_name}
    # The mounter had nothing to do, and says nothing.
    assert not [line for line in printed if "confide-disks" in line]


@contextmanager
def answering(body: bytes) -> Iterator[tuple[str, threading.Event]]:
    """A server that answers everything with `body`: its address in a machine, and when asked."""
    asked = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            asked.set()

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{HOST_IN_GUEST}:{server.server_port}", asked
        finally:
            server.shutdown()
