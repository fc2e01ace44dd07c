"""What of a folder goes onto a disk."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from confide.errors import ConfigError
from confide.host.model.source import scan


def paths(folder: Path) -> list[str]:
    return [file.path for file in scan(folder).files]


def refused(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        scan(folder)
    assert caught.value.code == "bad-model-file"
    return caught.value.message


def test_order_is_of_bytes(tmp_path: Path) -> None:
    for name in ("b", "ä", "Z", "a-b", "a/x", "\U00010000", "\uffee"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = scan(tmp_path)
    expected = ["Z", "a-b", "a/x", "b", "ä", "\uffee", "\U00010000"]
    assert [file.path for file in found.files] == expected
    assert found.folders() == ("a",)


def test_hidden_and_empty_folders_are_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    (tmp_path / ".cache" / "huggingface" / "times").write_text("now")
    (tmp_path / "sub" / "none").mkdir(parents=True)
    (tmp_path / "sub" / ".gitattributes").write_text("x")
    (tmp_path / "config.json").write_text("{}")
    found = scan(tmp_path)
    assert [file.path for file in found.files] == ["config.json"]
    assert found.left_out == (".cache", "sub/.gitattributes")
    assert found.folders() == ()


def test_link_within_the_folder_is_the_file(tmp_path: Path) -> None:
    (tmp_path / "real.bin").write_bytes(b"12345")
    (tmp_path / "link.bin").symlink_to("real.bin")
    assert [(f.path, f.size) for f in scan(tmp_path).files] == [("link.bin", 5), ("real.bin", 5)]


def test_snapshot_of_a_hugging_face_cache(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123abcd"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "aa").write_bytes(b"weights")
    (snapshot / "model.safetensors").symlink_to("../../blobs/aa")
    assert scan(snapshot).files[0].source == blobs / "aa"
    (tmp_path / "secret").write_text("x")
    (snapshot / "config.json").symlink_to("../../secret")
    assert "leads out of the folder" in refused(snapshot)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nothing", "leads nowhere"),
        ("link", "leads nowhere"),
        ("sub", "link to a folder"),
        (".", "link to a folder"),
        ("/etc/passwd", "leads out of the folder"),
    ],
)
def test_other_links_are_refused(tmp_path: Path, target: str, said: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("x")
    (tmp_path / "link").symlink_to(target)
    assert said in refused(tmp_path)


def test_neither_file_nor_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "neither a file nor a folder" in refused(tmp_path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert "neither a file nor a folder" in refused(tmp_path)


@pytest.mark.parametrize("name", [b"new\nline", b"\xff\xfe", "\u202egpj".encode()])
def test_names_that_do_not_print(tmp_path: Path, name: bytes) -> None:
    (tmp_path / os.fsdecode(name)).write_text("x")
    assert "not printable UTF-8" in refused(tmp_path)


def test_no_data(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("")
    with pytest.raises(ConfigError, match="no data"):
        scan(tmp_path)


@pytest.mark.parametrize("name", ["absent", "file"])
def test_no_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be read"):
        scan(tmp_path / name)


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"12345")
    source = scan(tmp_path)
    source.require_unchanged()
    file.write_bytes(b"123456")
    with pytest.raises(ConfigError, match="weights was changed"):
        source.require_unchanged()
    file.unlink()
    with pytest.raises(ConfigError, match="weights was changed"):
        source.require_unchanged()
