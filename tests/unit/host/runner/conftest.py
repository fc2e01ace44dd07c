"""Stand-ins for QEMU, swtpm and the firmware."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from confide.host.runner import swtpm, vm
from tests.support.fake_tools import MakeTools, fake_tools


@pytest.fixture
def make_tools(tmp_path: Path) -> MakeTools:
    """Tools whose two programs are shell scripts."""
    return partial(fake_tools, tmp_path / "tools")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "disk.raw").write_bytes(bytes(4096))
    (folder / "role").write_text("coordinator\n")
    return folder


@pytest.fixture
def no_tpm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines whose TPM needs no swtpm and whose QEMU need not understand "quit"."""
    monkeypatch.setattr(vm, "QUIT_SECONDS", 0.1)
    monkeypatch.setattr(vm, "kvm_works", lambda _: False)
    monkeypatch.setattr(swtpm, "provision", lambda *_: None)
