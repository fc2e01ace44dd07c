"""Fixtures: the GPU worker's image in a machine without a GPU, beside a coordinator.

`make test-gpu-image` builds everything and sets the variables; `make test` leaves this folder out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from confide.client.collateral.finder import offline
from confide.client.service import set_manifest
from confide.host.manifest_builder import Policy, build_manifest, development_policy
from confide.host.references import measured
from confide.host.runner.qemu import Tools
from confide.host.runner.vm import Machine
from confide.protocol.configdisk import ConfigDisk
from tests.support.refused import Refused, wait_refused

ROOT = Path(__file__).parents[2]
MEMORY_MIB = 2048  # of which the engine, which must not start, would need more
SECONDS = 300


@pytest.fixture(scope="session")
def manifest(
    images: Path, gpu_image: Path, built_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> bytes:
    """A development manifest that demands of the worker's GPUs what production does."""
    entry = json.loads((built_model / "model.json").read_text())
    model = tmp_path_factory.mktemp("model") / "model.json"
    model.write_text(json.dumps(entry | {"roles": ["worker-gpu"]}))
    production = Policy.read(ROOT / "release/policy.json")
    policy = Policy("development", development_policy().platforms, production.gpus)
    references = measured([images / "coordinator", gpu_image], released=int(time.time()))
    return build_manifest(references, [model], policy)


@pytest.fixture(scope="session")
def refused(
    images: Path,
    gpu_image: Path,
    built_model: Path,
    tools: Tools,
    manifest: bytes,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Refused]:
    """The worker has tried to join at least once, and was refused."""
    folder = tmp_path_factory.mktemp("machines")
    binding = sha256(manifest).digest()
    coordinator = Machine(
        images / "coordinator",
        "coordinator",
        config=ConfigDisk(binding),
        run_dir=folder / "coordinator",
        tools=tools,
    )
    with coordinator:
        config = ConfigDisk(
            binding,
            coordinator.guest_url(8000),
            ("https://10.0.2.2:9",),  # never asked
            ("tiny",),
        )
        worker = Machine(
            gpu_image,
            "worker-gpu",
            run_dir=folder / "worker-gpu",
            config=config,
            model_disks=[built_model / "model.disk"],
            tools=tools,
            memory_mib=MEMORY_MIB,
        )
        with worker:
            coordinator.wait_ready(SECONDS)
            set_manifest(coordinator.url, manifest, offline())
            yield Refused(coordinator, worker, wait_refused(coordinator, worker, SECONDS))
