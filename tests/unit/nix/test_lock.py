"""Locking Debian packages: what a set is, and where its packages may come from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import download
import lock
import pytest


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"keep": ["a", "b"]}, (["a", "b"], ["a", "b"])),
        ({"install": ["kernel"], "keep": ["kernel-[0-9]*"]}, (["kernel"], ["kernel-[0-9]*"])),
    ],
    ids=["packages alone", "some of what they need"],
)
def test_a_set_that_is_not_all_that_its_packages_need(
    spec: dict[str, list[str]], expected: tuple[list[str], list[str]]
) -> None:
    assert lock.parts(spec) == expected


def test_only_the_driver_comes_from_outside_of_debian_main() -> None:
    releases = json.loads((lock.LOCK / "debian.json").read_text())["releases"]
    outside = {
        (release, package["path"].split("/")[1])
        for release, content in releases.items()
        for package in content["packages"].values()
        if not package["path"].startswith(("pool/main/", "pool/updates/main/"))
    }
    parts = ("contrib", "non-free", "non-free-firmware")
    assert outside == {("trixie-nvidia", part) for part in parts}


def test_the_driver_s_packages_are_of_one_release() -> None:
    """NVIDIA's daemon and libraries are separate source packages, made for the same driver."""
    releases = json.loads((lock.LOCK / "debian.json").read_text())["releases"]
    versions = {
        p["version"].partition("-")[0] for p in releases["trixie-nvidia"]["packages"].values()
    }
    assert len(versions) == 1


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="this machine has no apt")
def test_apt_s_folder_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where TMPDIR has a quote or a space in it, which mean something in apt's own files."""
    monkeypatch.setattr(lock.Apt, "run", lambda *_: "")
    folder = tmp_path / """a "b" {c}; 'd'"""
    mirrors = download.Mirrors(("http://a.test/debian",), ("http://a.test/debian-security",))
    apt = lock.Apt(folder, {"suites": ["trixie"]}, mirrors)
    for name, path in (("State", ""), ("State::status", "/status"), ("Cache", "/cache")):
        shell = subprocess.run(
            ["apt-config", *apt.options, "shell", "value", f"Dir::{name}"],
            env={**os.environ, "APT_CONFIG": str(apt.config)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        script = f'{shell}\nprintf %s "$value"'
        assert subprocess.check_output(["sh", "-c", script], text=True) == f"{folder}{path}"
