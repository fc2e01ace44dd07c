"""A layer's wheels."""

from __future__ import annotations

import zipfile
from pathlib import Path

import build_layer
import pytest
import tree


def wheel(path: Path, *names: str, content: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, content or name)
    return path


def test_wheels_are_unpacked_without_scripts_and_what_is_left_out(tmp_path: Path) -> None:
    one = wheel(tmp_path / "one.whl", "one/__init__.py", "one-1.data/scripts/run", "shared/a.py")
    two = wheel(tmp_path / "two.whl", "two.py", "two/big.a", "shared/b.py")
    paths = build_layer.unpack_wheels([one, two], tmp_path / "site", ["*.a"])
    assert paths == list(tree.walk(tmp_path / "site"))
    assert paths == ["one/__init__.py", "shared/a.py", "shared/b.py", "two.py"]


def test_leaving_out_what_no_wheel_has_is_refused(tmp_path: Path) -> None:
    one = wheel(tmp_path / "one.whl", "one.py")
    with pytest.raises(tree.BuildError, match=r"'!two/\*' matches no file"):
        build_layer.unpack_wheels([one], tmp_path / "site", ["two/*"])


def test_a_wheels_programs_stay_programs(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "one.whl", "w") as archive:
        for name, mode in (("bin/run", 0o100755), ("data", 0o100644)):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, name)
    build_layer.unpack_wheels([tmp_path / "one.whl"], tmp_path / "site", [])
    assert (tmp_path / "site/bin/run").stat().st_mode & 0o111
    assert not (tmp_path / "site/data").stat().st_mode & 0o111


def test_two_wheels_with_the_same_file_are_refused_unless_it_is_equal(tmp_path: Path) -> None:
    one = wheel(tmp_path / "one.whl", "shared/__init__.py")
    two = wheel(tmp_path / "two.whl", "shared/__init__.py")
    assert build_layer.unpack_wheels([one, two], tmp_path / "site", []) == ["shared/__init__.py"]
    two = wheel(tmp_path / "two.whl", "shared/__init__.py", content="another")
    with pytest.raises(tree.BuildError, match=r"two\.whl and one\.whl both bring shared/__init__"):
        build_layer.unpack_wheels([one, two], tmp_path / "site", [])


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
