from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from confide.guest.attest.gpus import operations
from confide.guest.attest.nvidia import NvidiaGpus
from tests.support.fake_nvml import install_driver
from tests.support.joining import Setting
from tests.support.local_socket import listening, start
from tests.support.production import Production
from tests.support.simulated_amd import NOW
from tests.support.simulated_machine import Clock


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Setting]:
    production = Production()
    production.pin(monkeypatch)
    root = install_driver(tmp_path)
    made = Setting(production, Clock(NOW), root, tmp_path / "socket")
    with listening(made.service) as listener:
        start(listener, operations(NvidiaGpus(made.nvml, root)))
        yield made
