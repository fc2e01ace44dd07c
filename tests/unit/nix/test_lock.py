"""Locking Debian packages: what a set is, and where its packages may come from."""

from __future__ import annotations

import json

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
