"""The initrd's archive and its modules' order."""

from __future__ import annotations

import lzma
from pathlib import Path

import build_initrd
import pytest
import tree

RELEASE = "6.12.1-cloud"


def module(folder: Path, name: str, depends: str, built_for: str = RELEASE) -> bytes:
    facts = (f"depends={depends}", f"name={name}", f"vermagic={built_for} SMP mod_unload ")
    data = b"\x7fELF..." + b"".join(b"\0" + fact.encode() for fact in facts) + b"\0"
    (folder / f"{name}.ko.xz").write_bytes(lzma.compress(data))
    return data


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    folder = tmp_path / "kernel"
    folder.mkdir()
    module(folder, "dm-mod", "")
    module(folder, "dm-bufio", "dm-mod")
    module(folder, "dm-verity", "dm-mod,dm_bufio")
    return folder


def install(folder: Path, listed: list[str], target: Path) -> None:
    build_initrd.install_modules(build_initrd.module_files([folder]), RELEASE, listed, target)


def test_modules_in_order_are_unpacked(kernel: Path, tmp_path: Path) -> None:
    install(kernel, ["dm-mod", "dm-bufio", "?dm-verity"], tmp_path)
    assert (tmp_path / "dm-verity.ko").read_bytes().startswith(b"\x7fELF")


def test_a_module_has_parameters_behind_its_name(kernel: Path, tmp_path: Path) -> None:
    install(kernel, ["?dm-mod one=1 two=2"], tmp_path)
    assert (tmp_path / "dm-mod.ko").exists()


def test_module_before_one_that_it_needs_is_an_error(kernel: Path, tmp_path: Path) -> None:
    with pytest.raises(tree.BuildError, match="dm-verity needs dm_bufio before it"):
        install(kernel, ["dm-mod", "dm-verity", "dm-bufio"], tmp_path)


def test_module_that_the_kernel_has_not_is_an_error(kernel: Path, tmp_path: Path) -> None:
    with pytest.raises(tree.BuildError, match="has a module dm-crypt"):
        install(kernel, ["dm-crypt"], tmp_path)


def test_a_module_that_we_built_is_taken_as_it_is(kernel: Path, tmp_path: Path) -> None:
    driver = tmp_path / "driver"
    driver.mkdir()
    data = module(driver, "nvidia", "")
    (driver / "nvidia.ko.xz").unlink()
    (driver / "nvidia.ko").write_bytes(data)
    files = build_initrd.module_files([kernel, driver])
    build_initrd.install_modules(files, RELEASE, ["nvidia"], tmp_path)
    assert (tmp_path / "nvidia.ko").read_bytes() == data


def test_a_module_for_another_kernel_is_an_error(kernel: Path, tmp_path: Path) -> None:
    module(kernel, "nvidia", "", built_for="6.12.0-cloud")
    expected = "nvidia is for Linux 6.12.0-cloud, expected 6.12.1-cloud"
    with pytest.raises(tree.BuildError, match=expected):
        install(kernel, ["nvidia"], tmp_path)


def test_module_lists_follow_each_other(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("# why\n\na  # this\n")
    (tmp_path / "2").write_text("?b x=1\n")
    assert build_initrd.read_lists([tmp_path / "1", tmp_path / "2"]) == ["a", "?b x=1"]


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


def test_our_own_kernel_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(b"MZ")
    (tmp_path / "kernel-release").write_text("6.12.1-confide\n")
    (tmp_path / "packages.txt").write_text("hash-linux-source.deb\n")
    kernel = build_initrd.unpack_kernel(tmp_path, tmp_path / "unused")
    assert kernel.release == "6.12.1-confide"
    assert kernel.vmlinuz.read_bytes() == b"MZ"
    assert kernel.packages == {"hash-linux-source.deb"}
    assert not (tmp_path / "unused").exists()
