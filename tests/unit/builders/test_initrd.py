"""The initrd's archive and its modules' order."""

from __future__ import annotations

import lzma
from pathlib import Path

import build_initrd
import pytest
import tree


def module(folder: Path, name: str, depends: str) -> None:
    data = b"\x7fELF..." + b"\0depends=" + depends.encode() + b"\0name=" + name.encode() + b"\0"
    (folder / f"{name}.ko.xz").write_bytes(lzma.compress(data))


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    folder = tmp_path / "kernel"
    folder.mkdir()
    module(folder, "dm-mod", "")
    module(folder, "dm-bufio", "dm-mod")
    module(folder, "dm-verity", "dm-mod,dm_bufio")
    return folder


def test_modules_in_order_are_unpacked(kernel: Path, tmp_path: Path) -> None:
    build_initrd.install_modules(kernel, ["dm-mod", "dm-bufio", "?dm-verity"], tmp_path)
    assert (tmp_path / "dm-verity.ko").read_bytes().startswith(b"\x7fELF")


def test_module_before_one_that_it_needs_is_an_error(kernel: Path, tmp_path: Path) -> None:
    with pytest.raises(tree.BuildError, match="dm-verity needs dm_bufio before it"):
        build_initrd.install_modules(kernel, ["dm-mod", "dm-verity", "dm-bufio"], tmp_path)


def test_module_that_the_kernel_has_not_is_an_error(kernel: Path, tmp_path: Path) -> None:
    with pytest.raises(tree.BuildError, match="no module dm-crypt"):
        build_initrd.install_modules(kernel, ["dm-crypt"], tmp_path)


def files(root: Path, names: list[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def test_archive_depends_on_names_and_contents_alone(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    files(one, ["b", "a/c"])
    files(two, ["a/c", "b"])
    (two / "b").touch()
    assert build_initrd.cpio(one) == build_initrd.cpio(two)
    (two / "b").write_bytes(b"other")
    assert build_initrd.cpio(one) != build_initrd.cpio(two)
