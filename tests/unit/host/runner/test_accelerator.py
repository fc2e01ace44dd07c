"""KVM is used if a guest boots under it, not because its device exists."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from confide.host.runner import accelerator
from confide.host.runner.accelerator import kvm_works
from tests.support.fake_tools import MakeTools

FIND_CONSOLE = "for a; do case $a in file,id=console,path=*) console=${a#*path=};; esac; done; "


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A KVM device that may be opened."""
    path = tmp_path / "kvm"
    path.touch()
    monkeypatch.setattr(accelerator, "DEVICE", path)
    return path


def test_no_device(make_tools: MakeTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "DEVICE", tmp_path / "missing")
    tools = make_tools(qemu=f"touch {tmp_path}/tried")
    assert not kvm_works(tools, tmp_path / "cache")
    assert not (tmp_path / "tried").exists()


def test_guest_that_boots(make_tools: MakeTools, tmp_path: Path, device: Path) -> None:
    tools = make_tools(qemu=FIND_CONSOLE + 'echo "BdsDxe: loading" > "$console"; exec sleep 100')
    assert kvm_works(tools, tmp_path / "cache")


@pytest.mark.parametrize(
    "qemu", ["exit 1", "echo 'KVM internal error. Suberror: 1' >&2; exec sleep 100"]
)
def test_guest_that_dies(make_tools: MakeTools, tmp_path: Path, device: Path, qemu: str) -> None:
    start = time.monotonic()
    assert not kvm_works(make_tools(qemu=qemu), tmp_path / "cache")
    assert time.monotonic() - start < accelerator.TRIAL_SECONDS / 2


def test_guest_that_hangs(
    make_tools: MakeTools, tmp_path: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerator, "TRIAL_SECONDS", 0.5)
    assert not kvm_works(make_tools(qemu="exec sleep 100"), tmp_path / "cache")


def test_result_is_kept_for_this_boot_only(
    make_tools: MakeTools, tmp_path: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = tmp_path / "boot_id"
    boot.write_text("first\n")
    monkeypatch.setattr(accelerator, "BOOT_ID", boot)
    tried = tmp_path / "tried"
    tools = make_tools(qemu=f"echo x >> {tried}; exit 1")
    for _ in range(2):
        assert not kvm_works(tools, tmp_path / "cache")
    assert tried.read_text() == "x\n"
    boot.write_text("second\n")
    assert not kvm_works(tools, tmp_path / "cache")
    assert tried.read_text() == "x\nx\n"


def test_broken_cache_means_a_new_trial(
    make_tools: MakeTools, tmp_path: Path, device: Path
) -> None:
    tools = make_tools(qemu=FIND_CONSOLE + 'echo BdsDxe > "$console"; exec sleep 100')
    assert kvm_works(tools, tmp_path / "cache")
    [entry] = (tmp_path / "cache").iterdir()
    for broken in ("", "[]", "1", "tru"):
        entry.write_text(broken)
        assert kvm_works(tools, tmp_path / "cache")
