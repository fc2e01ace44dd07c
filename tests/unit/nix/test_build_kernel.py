"""The kernel's source, its patch and its configuration, with a makefile of the tests' own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import build_kernel
import pytest
import tree

FILE = "drivers/acpi/osl.c"
PATCH = f"""\
SPDX-License-Identifier: GPL-2.0-only

Why it is there.

--- a/{FILE}
+++ b/{FILE}
@@ -1,3 +1,4 @@
 one
+more
 two
 three
"""
# Stands for the kernel's own: it brings one option along, and drops what it does not know.
MAKEFILE = """\
allnoconfig:
	@{ grep -v CONFIG_UNKNOWN $(KCONFIG_ALLCONFIG); echo CONFIG_BROUGHT=y; } >.config
bzImage:
	@false
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Packs archives of a source with these lines; returns where it will be unpacked."""
    packed, unpacked = tmp_path / "packed", tmp_path / "linux"
    packed.mkdir()
    monkeypatch.setattr(build_kernel, "SOURCE", unpacked)
    monkeypatch.setattr(build_kernel, "PROGRAMS", tmp_path / "bin")
    monkeypatch.setattr(build_kernel, "Path", lambda path: {"/usr/src": packed}[path])

    def pack(text: str, archives: tuple[str, ...] = ("linux-source-6.12",)) -> Path:
        folder = tmp_path / "linux-source"
        (folder / FILE).parent.mkdir(parents=True)
        (folder / FILE).write_text(text)
        (folder / "Makefile").write_text(MAKEFILE)
        for name in archives:
            subprocess.run(
                ["tar", "-C", tmp_path, "-cJf", packed / f"{name}.tar.xz", folder.name], check=True
            )
        return unpacked

    return pack


@pytest.fixture
def patches(tmp_path: Path) -> list[Path]:
    (tmp_path / "ours.patch").write_text(PATCH)
    return [tmp_path / "ours.patch"]


def lists(folder: Path, **texts: str) -> list[Path]:
    """The files asked, required and forbidden."""
    paths = [folder / name for name in ("asked", "required", "forbidden")]
    for path in paths:
        path.write_text(texts.get(path.name, ""))
    return paths


def test_the_source_is_unpacked_and_patched(
    source: Callable[..., Path], patches: list[Path]
) -> None:
    unpacked = source("one\ntwo\nthree\n")
    build_kernel.unpack(patches)
    assert (unpacked / FILE).read_text() == "one\nmore\ntwo\nthree\n"
    assert sorted(path.name for path in (unpacked / FILE).parent.iterdir()) == ["osl.c"]


@pytest.mark.parametrize(
    "text", ["one\nTWO\nthree\n", "one\nmore\ntwo\nthree\n"], ids=["other lines", "patched before"]
)
def test_a_patch_that_does_not_fit_ends_the_build(
    source: Callable[..., Path], patches: list[Path], text: str
) -> None:
    source(text)
    with pytest.raises(tree.BuildError, match=r"ours\.patch does not fit this kernel"):
        build_kernel.unpack(patches)


@pytest.mark.parametrize("archives", [(), ("linux-source-6.12", "linux-source-7.0")])
def test_there_is_exactly_one_source(
    source: Callable[..., Path], archives: tuple[str, ...]
) -> None:
    source("one\n", archives)
    with pytest.raises(tree.BuildError, match=f"{len(archives)} kernel sources, expected one"):
        build_kernel.unpack([])


def test_the_configuration_is_what_was_asked_for(
    source: Callable[..., Path], tmp_path: Path
) -> None:
    unpacked = source("one\n")
    build_kernel.unpack([])
    asked, required, forbidden = lists(
        tmp_path, asked="CONFIG_SMP=y\n", required="CONFIG_SMP=y\n", forbidden="CONFIG_XEN*\n"
    )
    build_kernel.configure([asked], [required], forbidden)
    assert (unpacked / ".config").read_text() == "CONFIG_SMP=y\nCONFIG_BROUGHT=y\n"


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"asked": "CONFIG_UNKNOWN=y\n"}, "CONFIG_UNKNOWN is n, asked for was y"),
        ({"required": "CONFIG_VMAP_STACK=y\n"}, "CONFIG_VMAP_STACK is n, required is y"),
        ({"forbidden": "CONFIG_BR*\n"}, "CONFIG_BROUGHT is y, but forbidden"),
    ],
    ids=["dropped", "missing", "brought along"],
)
def test_a_configuration_that_differs_ends_the_build(
    source: Callable[..., Path], tmp_path: Path, texts: dict[str, str], said: str
) -> None:
    source("one\n")
    build_kernel.unpack([])
    asked, required, forbidden = lists(tmp_path, **{"asked": "CONFIG_SMP=y\n", **texts})
    with pytest.raises(tree.BuildError, match=said):
        build_kernel.configure([asked], [required], forbidden)


def test_a_compilation_that_fails_ends_the_build(source: Callable[..., Path]) -> None:
    source("one\n")
    build_kernel.unpack([])
    with pytest.raises(tree.BuildError, match="make bzImage failed"):
        build_kernel.make("bzImage")


def test_time_user_and_host_are_fixed(source: Callable[..., Path]) -> None:
    """Else two builds would differ."""
    unpacked = source("one\n")
    build_kernel.unpack([])
    (unpacked / "Makefile").write_text("bzImage:\n\t@env >seen\n")
    build_kernel.make("bzImage")
    seen = set((unpacked / "seen").read_text().splitlines())
    assert {f"{name}={value}" for name, value in build_kernel.FIXED.items()} <= seen
