"""Fixtures of the end-to-end tests: what the flake built, and one running service for the session.

`make test` builds everything. Without it these tests skip and say so; in CI that is a failure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from confide.commands.system import Build, Program, System
from confide.host.runner.qemu import Tools
from confide.protocol.configdisk import ConfigDisk


@pytest.fixture(scope="session")
def build(images: Path, built_model: Path, built_manifest: Path, tools: Tools) -> Build:
    """What the flake built of the whole service."""
    return Build(images, built_model, built_manifest, tools)


@pytest.fixture(scope="session")
def config(build: Build) -> ConfigDisk:
    """The config disk of a machine by itself, launched for the build's manifest."""
    return ConfigDisk(sha256(build.manifest.read_bytes()).digest())


@pytest.fixture(scope="session")
def expected(build: Build) -> str:
    """What the tiny model answers, whatever it is asked."""
    return str(json.loads((build.model / "expected.json").read_text())["text"])


@pytest.fixture(scope="session")
def system(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The three machines, booted once; tests must leave them serving."""
    with System(build, tmp_path_factory.mktemp("system"), progress=print) as running:
        yield running


@pytest.fixture(scope="session")
def gateway(system: System) -> Program:
    return system.start_gateway()


@pytest.fixture(scope="session")
def proxy(system: System, gateway: Program) -> Program:
    return system.start_proxy(gateway.url)
