"""A layer's wheels."""

from __future__ import annotations

import zipfile
from pathlib import Path

import build_layer
import pytest
import tree


def wheel(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return path


def test_wheels_are_unpacked_without_scripts(tmp_path: Path) -> None:
    one = wheel(tmp_path / "one.whl", "one/__init__.py", "one-1.data/scripts/run", "shared/a.py")
    two = wheel(tmp_path / "two.whl", "two.py", "shared/b.py")
    build_layer.unpack_wheels([one, two], tmp_path / "site")
    assert list(tree.walk(tmp_path / "site")) == [
        "one/__init__.py",
        "shared/a.py",
        "shared/b.py",
        "two.py",
    ]


def test_two_wheels_with_the_same_file_are_refused(tmp_path: Path) -> None:
    one = wheel(tmp_path / "one.whl", "tests/__init__.py")
    two = wheel(tmp_path / "two.whl", "tests/__init__.py")
    with pytest.raises(tree.BuildError, match=r"two\.whl and one\.whl both bring tests/__init__"):
        build_layer.unpack_wheels([one, two], tmp_path / "site")


def test_list_without_comments(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# why\n\nusr/bin/a  # this\n")
    assert build_layer.read_list(tmp_path / "list") == ["usr/bin/a"]


def test_files_of_a_folder_are_placed_in_another(tmp_path: Path) -> None:
    for name in ("usr/lib/deep/a.so.1", "usr/lib/b.so.1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    for folder, target in (("usr/lib/deep", "lib"), ("usr/lib", "lib"), ("opt", "x"), ("usr", ".")):
        build_layer.place(tmp_path, folder, target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lib"]
    assert (tmp_path / "lib/a.so.1").read_text() == "usr/lib/deep/a.so.1"
    assert list(tree.walk(tmp_path)) == ["lib/a.so.1", "lib/b.so.1"]


def test_a_file_is_not_placed_over_another(tmp_path: Path) -> None:
    for name in ("usr/lib/a", "lib/a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    with pytest.raises(tree.BuildError, match="usr/lib/a cannot be placed: lib/a is there"):
        build_layer.place(tmp_path, "usr/lib", "lib")
