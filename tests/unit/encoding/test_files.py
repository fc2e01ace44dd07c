"""A file that is replaced has its old bytes or its new ones, whatever fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from confide.encoding.files import replace_file
from confide.errors import ConfigError


def test_a_new_file_and_a_second_time(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"one")
    path.chmod(0o604)
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o604
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    replace_file(tmp_path / "file", b"")
    (tmp_path / "other").write_bytes(b"")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_link_still_leads_to_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/file")
    replace_file(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder/file").read_bytes() == b"data"


@pytest.mark.parametrize("fails", ["os.fsync", "shutil.copymode", "pathlib.Path.replace"])
def test_what_fails_leaves_the_old_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(fails, full)
    with pytest.raises(ConfigError, match="No space left") as caught:
        replace_file(path, b"new")
    assert caught.value.code == "unwritable-file"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_the_old_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        replace_file(tmp_path / "nothing" / "file", b"data")


def test_what_is_no_file_stays(tmp_path: Path) -> None:
    """A superuser could replace even a device."""
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (pipe, folder):
        with pytest.raises(ConfigError, match="not a regular file"):
            replace_file(path, b"data")
    assert pipe.is_fifo() and folder.is_dir()
