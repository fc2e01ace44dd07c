"""Packing: the same bits everywhere, and not from zero after an interruption."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest

from confide.errors import ConfigError
from confide.host.model import check, hashing, pack
from confide.host.model.outputs import write_entry
from confide.host.model.source import scan
from confide.protocol.engine_options import EngineOptions
from confide.protocol.hash_tree import BLOCK, disk_size, levels

ROOT = Path(__file__).parents[4]


class Interrupted(Exception):
    """What a test raises where a person would press Ctrl-C."""


def quiet(_total: int) -> Callable[[int], None]:
    return lambda _count: None


def until(limit: int) -> Callable[[int], Callable[[int], None]]:
    """A progress that raises after so many calls."""
    calls = 0

    def count(_bytes: int) -> None:
        nonlocal calls
        calls += 1
        if calls == limit:
            raise Interrupted

    return lambda _total: count


def packed(folder: Path, disk: Path, tools: Path) -> pack.PackedDisk:
    return pack.pack(scan(folder), disk, tools, quiet)


def test_a_disk_holds_the_files(folder: Path, model_tools: Path, tmp_path: Path) -> None:
    disk = tmp_path / "model.disk"
    result = packed(folder, disk, model_tools)
    data = disk.read_bytes()
    assert result.size == len(data) == disk_size(result.hash_offset // BLOCK)
    assert result.sha256 == sha256(data).digest()
    assert result.root_hash == plain_root(data[: result.hash_offset])
    (tmp_path / "data").write_bytes(data[: result.hash_offset])
    fsck = str(model_tools / "bin" / "fsck.erofs")
    extract = [fsck, f"--extract={tmp_path / 'out'}", str(tmp_path / "data")]
    subprocess.run(extract, check=True, capture_output=True)
    found = {p.relative_to(tmp_path / "out"): p.read_bytes() for p in files(tmp_path / "out")}
    assert found == {p.relative_to(folder): p.read_bytes() for p in files(folder)}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "data",
        "model",
        "model.disk",
        "out",
    ]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def plain_root(level: bytes) -> bytes:
    """The root hash, the plain way."""
    while len(level) > BLOCK:
        blocks = [level[at : at + BLOCK] for at in range(0, len(level), BLOCK)]
        hashes = b"".join(sha256(bytes(32) + block).digest() for block in blocks)
        level = hashes + bytes(-len(hashes) % BLOCK)
    return sha256(bytes(32) + level).digest()


def test_nothing_but_paths_and_contents_matters(
    folder: Path, model_tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "elsewhere" / "copy"
    for path in sorted(files(folder), reverse=True):
        target = other / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(0o600)
        os.utime(target, (7, 7))
    (other / "weights-3.bin").rename(other / ".hidden")
    (other / "weights-3.bin").symlink_to(".hidden")
    os.link(other / "weights-1.bin", tmp_path / "elsewhere" / "hard link")
    (other / "empty folder").mkdir()
    first = packed(folder, tmp_path / "a.disk", model_tools)
    monkeypatch.setattr(hashing, "SEGMENT_BLOCKS", 256)
    for name, value in (
        ("LC_ALL", "tr_TR.UTF-8"),
        ("TZ", "Asia/Tokyo"),
        ("SOURCE_DATE_EPOCH", "9"),
    ):
        monkeypatch.setenv(name, value)
    before = os.umask(0o077)
    try:
        second = packed(other, tmp_path / "b.disk", model_tools)
    finally:
        os.umask(before)
    assert first == second
    assert (tmp_path / "a.disk").read_bytes() == (tmp_path / "b.disk").read_bytes()


def test_the_flakes_builder_makes_the_same_bits(
    built_model: Path, model_tools: Path, tmp_path: Path
) -> None:
    script = ROOT / "nix" / "model-tiny.py"
    subprocess.run([sys.executable, script, tmp_path / "tiny"], check=True)
    disk = packed(tmp_path / "tiny", tmp_path / "model.disk", model_tools)
    assert (built_model / "model.disk").read_bytes() == (tmp_path / "model.disk").read_bytes()
    entry = disk.entry("tiny", ["chat", "completion"], ["worker-cpu"], EngineOptions())
    write_entry(tmp_path / "model.json", entry)
    assert (built_model / "model.json").read_bytes() == (tmp_path / "model.json").read_bytes()


PINNED = "5f1e54de80930bbd98183c9253f1a8da069ea14c033e26325afc990162f399a6"


def test_bits_are_pinned(model_tools: Path, tmp_path: Path) -> None:
    """A change here is a change of the root hash of everybody's disks."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(bytes(range(256)) * 4096)
    disk = packed(tmp_path / "model", tmp_path / "model.disk", model_tools)
    assert disk.hash_offset == 257 * BLOCK
    assert disk.root_hash.hex() == PINNED


class Made(NamedTuple):
    """Segments of data that were copied and hashed, by their offset."""

    log: Path

    def offsets(self) -> list[int]:
        return sorted(int(line) for line in self.log.read_text().split())


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Notes each segment that a process fills: they share no memory with this one."""
    log = tmp_path / "log"
    original = pack.fill

    def noted(task: pack.Fill) -> None:
        original(task)
        with log.open("a") as file:
            file.write(f"{task.segment.offset}\n")

    # A process gets a function by its name, so that is what is replaced.
    noted.__module__, noted.__qualname__ = original.__module__, original.__qualname__
    monkeypatch.setattr(pack, "fill", noted)
    return Made(log)


@pytest.mark.usefixtures("small_segments")
def test_an_interrupted_pack_goes_on(
    folder: Path, model_tools: Path, tmp_path: Path, made: Made
) -> None:
    whole = packed(folder, tmp_path / "whole.disk", model_tools)
    every = [at for at in made.offsets() if at < whole.hash_offset]
    assert len(every) > 20
    made.log.unlink()
    disk = tmp_path / "model.disk"
    with pytest.raises(Interrupted):
        pack.pack(scan(folder), disk, model_tools, until(14))
    assert not disk.exists()
    made.log.unlink()
    assert packed(folder, disk, model_tools) == whole
    assert disk.read_bytes() == (tmp_path / "whole.disk").read_bytes()
    assert [at for at in made.offsets() if at < whole.hash_offset] == every[12:]
    assert not list(tmp_path.glob("model.disk?*"))


KILLED = """
import os, signal, sys
from pathlib import Path
from confide.host.model import hashing, pack
from confide.host.model.source import scan

hashing.SEGMENT_BLOCKS, pack.CHECKPOINT_SEGMENTS = 128, 4
calls = 0

def count(_):
    global calls
    calls += 1
    if calls == 10:
        os.kill(os.getpid(), signal.SIGKILL)

folder, disk, tools = map(Path, sys.argv[1:])
pack.pack(scan(folder), disk, tools, lambda total: count)
"""


@pytest.mark.usefixtures("small_segments")
def test_a_killed_pack_goes_on(folder: Path, model_tools: Path, tmp_path: Path, made: Made) -> None:
    disk = tmp_path / "model.disk"
    environment = {"PYTHONPATH": f"{ROOT / 'py'}:{ROOT}"}
    command = [sys.executable, "-c", KILLED, str(folder), str(disk), str(model_tools)]
    # Its output ends when the last of its processes has ended, so they do not outlive it.
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    result = packed(folder, disk, model_tools)
    assert min(made.offsets()) == 8 * 128 * BLOCK
    assert check.verify(disk, result.root_hash, result.hash_offset, quiet) == result.size


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("change", ["touched", "added", "journal", "truncated", "segment"])
def test_what_was_done_for_something_else_is_not_used(
    folder: Path,
    model_tools: Path,
    tmp_path: Path,
    made: Made,
    change: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = tmp_path / "model.disk"
    with pytest.raises(Interrupted):
        pack.pack(scan(folder), disk, model_tools, until(14))
    if change == "touched":
        os.utime(folder / "weights-0.bin", (9, 9))
    elif change == "added":
        (folder / "empty 2").write_text("")
    elif change == "journal":
        (tmp_path / "model.disk.journal").write_text('{"plan": 7}')
    elif change == "segment":
        monkeypatch.setattr(hashing, "SEGMENT_BLOCKS", 256)
    else:
        os.truncate(tmp_path / "model.disk.partial", 9 << 20)
    made.log.unlink()
    result = packed(folder, disk, model_tools)
    assert made.offsets()[0] == 0
    assert check.verify(disk, result.root_hash, result.hash_offset, quiet) == result.size


def test_a_file_that_changes_meanwhile(folder: Path, model_tools: Path, tmp_path: Path) -> None:
    disk = tmp_path / "model.disk"

    def touch(_count: int) -> None:
        (folder / "weights-1.bin").write_bytes(b"y" * 5_000_002)

    with pytest.raises(ConfigError, match=r"weights-1\.bin was changed"):
        pack.pack(scan(folder), disk, model_tools, lambda _total: touch)
    assert not disk.exists()


def test_a_file_that_becomes_shorter(folder: Path, model_tools: Path, tmp_path: Path) -> None:
    source = scan(folder)
    os.truncate(folder / "weights-0.bin", 6_000_000)
    with pytest.raises(ConfigError, match=r"weights-0\.bin became shorter"):
        pack.pack(source, tmp_path / "model.disk", model_tools, quiet)


def test_no_space_is_seen_before_anything_is_written(
    folder: Path, model_tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: usage)
    with pytest.raises(ConfigError, match="no space") as caught:
        packed(folder, tmp_path / "model.disk", model_tools)
    assert caught.value.seen == "1048576 bytes"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_finished_disk_is_never_written_over(
    folder: Path, model_tools: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.disk").write_text("precious")
    with pytest.raises(ConfigError, match="never replaces"):
        packed(folder, tmp_path / "model.disk", model_tools)
    assert (tmp_path / "model.disk").read_text() == "precious"


def test_two_at_once(folder: Path, model_tools: Path, tmp_path: Path) -> None:
    disk = tmp_path / "model.disk"

    def another(_count: int) -> None:
        with pytest.raises(ConfigError, match="another process"):
            packed(folder, disk, model_tools)

    pack.pack(scan(folder), disk, model_tools, lambda _total: another)
    assert disk.exists()


def test_geometry_of_the_tree() -> None:
    data, leaves, top = levels(129)
    assert (data.offset, data.blocks) == (0, 129)
    assert (leaves.offset, leaves.blocks) == (130 * BLOCK, 2)
    assert (top.offset, top.blocks) == (129 * BLOCK, 1)


def test_entry_is_readable(tmp_path: Path) -> None:
    disk = pack.PackedDisk(bytes(32), 8192, 12288, bytes(32))
    write_entry(
        tmp_path / "model.json",
        disk.entry("tiny", ["chat"], ["worker-gpu"], EngineOptions(dtype="bfloat16")),
    )
    assert json.loads((tmp_path / "model.json").read_text()) == {
        "name": "tiny",
        "root_hash": "00" * 32,
        "hash_offset": 8192,
        "tasks": ["chat"],
        "roles": ["worker-gpu"],
        "engine": {"dtype": "bfloat16"},
    }
