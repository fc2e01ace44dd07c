"""What packing writes is never its input, and replaces no file of anybody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from confide.errors import ConfigError
from confide.host.model.outputs import Outputs, write_entry
from confide.host.model.pack import pack
from confide.host.model.source import scan

ENTRY: dict[str, object] = {"name": "tiny"}


class Interrupted(Exception):
    """What a test raises where a person would press Ctrl-C."""


def quiet(_total: int) -> Callable[[int], None]:
    return lambda _count: None


def interrupted(_total: int) -> Callable[[int], None]:
    raise Interrupted


def refused(folder: Path, disk: Path, code: str) -> ConfigError:
    before = {path: path.read_bytes() for path in disk.parent.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError) as caught:
        pack(scan(folder), disk, Path("/none"), quiet)
    assert caught.value.code == code
    assert caught.value.next
    after = {path: path.read_bytes() for path in disk.parent.rglob("*") if path.is_file()}
    assert before == after
    return caught.value


def test_names() -> None:
    outputs = Outputs(Path("a/llama-3.1.disk"))
    assert outputs.entry == Path("a/llama-3.1.json")
    assert Outputs(Path("raw")).entry == Path("raw.json")
    assert {outputs.partial.parent, outputs.journal.parent} == {Path("a")}


@pytest.mark.parametrize("where", [".", "tokenizer", "absent/.."])
def test_a_disk_in_the_models_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    refused(folder, folder / where / "model.disk", "disk-in-model")
    monkeypatch.chdir(folder)
    refused(Path(), Path("model.disk"), "disk-in-model")


def test_a_disk_in_the_models_folder_through_links(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(folder / "tokenizer")
    (tmp_path / "same model").symlink_to(folder)
    refused(folder, tmp_path / "elsewhere" / "model.disk", "disk-in-model")
    refused(tmp_path / "same model", folder / "model.disk", "disk-in-model")


@pytest.mark.parametrize("suffix", ["", ".partial"])
def test_a_disk_of_an_earlier_pack_in_the_models_folder(
    folder: Path, model_tools: Path, tmp_path: Path, suffix: str
) -> None:
    disk = tmp_path / "model.disk"
    if suffix:
        with pytest.raises(Interrupted):
            pack(scan(folder), disk, model_tools, interrupted)
    else:
        pack(scan(folder), disk, model_tools, quiet)
    (tmp_path / f"model.disk{suffix}").rename(folder / f"old.disk{suffix}")
    error = refused(folder, tmp_path / "new.disk", "disk-in-model")
    assert f"old.disk{suffix}" in error.message


@pytest.mark.parametrize("name", ["model.disk", "model.json"])
@pytest.mark.parametrize("link", [False, True])
def test_files_that_exist(folder: Path, tmp_path: Path, name: str, link: bool) -> None:
    """A link that leads nowhere is one, too."""
    if link:
        (tmp_path / name).symlink_to("nowhere")
    else:
        (tmp_path / name).write_text("precious")
    code = "disk-exists" if name == "model.disk" else "entry-exists"
    assert refused(folder, tmp_path / "model.disk", code).seen == str(tmp_path / name)
    assert (tmp_path / name).is_symlink() == link


@pytest.mark.parametrize("name", ["model.disk.partial", "model.disk.journal"])
def test_files_that_no_pack_left(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    assert refused(folder, tmp_path / "model.disk", "file-in-the-way").seen == str(tmp_path / name)


@pytest.mark.parametrize("name", ["model.disk.partial", "model.disk.journal"])
def test_links_into_the_model(folder: Path, model_tools: Path, tmp_path: Path, name: str) -> None:
    """Also where what they lead to would pass for what an interrupted pack left."""
    disk = tmp_path / "model.disk"
    with pytest.raises(Interrupted):
        pack(scan(folder), disk, model_tools, interrupted)
    (tmp_path / name).rename(tmp_path / "moved")
    (tmp_path / name).symlink_to("moved")
    refused(folder, disk, "file-in-the-way")


def test_an_interrupted_pack_is_not_in_the_way(
    folder: Path, model_tools: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "model.disk"
    for journal in (None, b"", bytes(99)):  # a crash may lose what was noted
        with pytest.raises(Interrupted):
            pack(scan(folder), disk, model_tools, interrupted)
        if journal is not None:
            Outputs(disk).journal.write_bytes(journal)
    pack(scan(folder), disk, model_tools, quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.disk"]


def test_an_entry_is_written_whole_and_never_over_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.json"

    def failing(_descriptor: int) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", failing)
        with pytest.raises(OSError, match="full"):
            write_entry(path, ENTRY)
    assert list(tmp_path.iterdir()) == []
    write_entry(path, ENTRY)
    assert json.loads(path.read_text()) == ENTRY
    with pytest.raises(ConfigError, match="never replaces it"):
        write_entry(path, {"name": "other"})
    assert json.loads(path.read_text()) == ENTRY
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.json"]
