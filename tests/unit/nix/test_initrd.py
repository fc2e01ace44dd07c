"""The initrd's archive and its modules' order."""

from __future__ import annotations

from pathlib import Path

import build_initrd
import pytest
import tree

RELEASE = "6.12.1-confide-gpu"


def module(folder: Path, name: str, depends: str, built_for: str = RELEASE) -> bytes:
    facts = (f"depends={depends}", f"name={name}", f"vermagic={built_for} SMP mod_unload ")
    data = b"\x7fELF..." + b"".join(b"\0" + fact.encode() for fact in facts) + b"\0"
    (folder / f"{name}.ko").write_bytes(data)
    return data


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    folder = tmp_path / "driver"
    folder.mkdir()
    module(folder, "nvidia", "")
    module(folder, "nvidia-uvm", "nvidia")
    module(folder, "nvidia-modeset", "nvidia-uvm,nvidia")
    return folder


def install(folder: Path, listed: list[str], target: Path) -> None:
    build_initrd.install_modules(build_initrd.module_files(folder), RELEASE, listed, target)


def test_modules_in_order_are_copied_as_they_are(driver: Path, tmp_path: Path) -> None:
    install(driver, ["nvidia", "nvidia_uvm", "?nvidia-modeset"], tmp_path)
    assert (tmp_path / "nvidia.ko").read_bytes() == (driver / "nvidia.ko").read_bytes()
    assert (tmp_path / "nvidia-modeset.ko").exists()


def test_a_module_has_parameters_behind_its_name(driver: Path, tmp_path: Path) -> None:
    install(driver, ["?nvidia one=1 two=2"], tmp_path)
    assert (tmp_path / "nvidia.ko").exists()


def test_module_before_one_that_it_needs_is_an_error(driver: Path, tmp_path: Path) -> None:
    with pytest.raises(tree.BuildError, match="nvidia-modeset needs nvidia_uvm before it"):
        install(driver, ["nvidia", "nvidia-modeset", "nvidia-uvm"], tmp_path)


def test_module_that_the_driver_has_not_is_an_error(driver: Path, tmp_path: Path) -> None:
    with pytest.raises(tree.BuildError, match="the driver has no module nvidia-drm"):
        install(driver, ["nvidia-drm"], tmp_path)


def test_a_module_for_another_kernel_is_an_error(driver: Path, tmp_path: Path) -> None:
    module(driver, "nvidia", "", built_for="6.12.0-confide-gpu")
    expected = "nvidia is for Linux 6.12.0-confide-gpu, expected 6.12.1-confide-gpu"
    with pytest.raises(tree.BuildError, match=expected):
        install(driver, ["nvidia"], tmp_path)


def test_a_module_list_has_comments(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# why\n\na  # this\n?b x=1\n")
    assert build_initrd.read_list(tmp_path / "list") == ["a", "?b x=1"]


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
