"""What goes into an image: lists, libraries, modes, shells."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import tree

PATHS = ["usr/bin/a", "usr/lib/p/x.py", "usr/lib/p/test/t.py", "usr/lib/q/y.py"]


def elf(path: Path, needs: list[str], interpreter: str = "") -> None:
    """A file that looks like an ELF64 program to a reader of its dynamic section."""
    strings = b"\0" + b"".join(n.encode() + b"\0" for n in needs)
    offsets, at = [], 1
    for name in needs:
        offsets.append(at)
        at += len(name) + 1
    headers = 3
    base = 64 + headers * 56
    interp = interpreter.encode() + b"\0"
    table = base + len(interp)
    dynamic = table + len(strings)
    entries = b"".join(struct.pack("<QQ", 1, o) for o in offsets)
    entries += struct.pack("<QQ", 5, table) + struct.pack("<QQ", 0, 0)
    size = dynamic + len(entries)
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQ", 3, 62, 1, 0, 64, 0)
    head += struct.pack("<IHHHHHH", 0, 64, 56, headers, 0, 0, 0)
    segments = [(1, 0, size), (2, dynamic, len(entries)), (3, base, len(interp))]
    if not interpreter:
        segments[2] = (0, 0, 0)
    for kind, offset, length in segments:
        head += struct.pack("<IIQQQQQQ", kind, 4, offset, offset, offset, length, length, 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + interp + strings + entries)


def test_list_lets_in_what_it_names_and_takes_out_what_it_denies() -> None:
    lines = ["usr/bin/a", "usr/lib/p  # a folder", "", "!usr/lib/p/test"]
    assert tree.select(PATHS, lines) == ["usr/bin/a", "usr/lib/p/x.py"]


@pytest.mark.parametrize("line", ["usr/bin/b", "!usr/lib/q", "usr/lib/p/*.so"])
def test_line_that_matches_nothing_is_an_error(line: str) -> None:
    with pytest.raises(tree.BuildError, match="matches no file"):
        tree.select(PATHS, ["usr/bin/a", line])


def test_libraries_follow_through_links_and_from_library_to_library(tmp_path: Path) -> None:
    elf(tmp_path / "usr/bin/a", ["libb.so.1"])
    elf(tmp_path / "usr/lib/libb.so.1.2", ["libc.so.6"])
    elf(tmp_path / "usr/lib/libc.so.6", [])
    elf(tmp_path / "usr/lib/unwanted.so", [])
    (tmp_path / "usr/lib/libb.so.1").symlink_to("libb.so.1.2")
    assert tree.with_libraries(tmp_path, ["usr/bin/a"], ["usr/lib"]) == [
        "usr/bin/a",
        "usr/lib/libb.so.1",
        "usr/lib/libb.so.1.2",
        "usr/lib/libc.so.6",
    ]


def test_program_interpreter_follows_through_merged_usr(tmp_path: Path) -> None:
    elf(tmp_path / "usr/bin/a", [], "/lib64/ld.so.2")
    elf(tmp_path / "usr/lib64/ld.so.2", [])
    assert "usr/lib64/ld.so.2" in tree.with_libraries(tmp_path, ["usr/bin/a"], [])


def test_library_that_nothing_brings_is_an_error(tmp_path: Path) -> None:
    elf(tmp_path / "usr/bin/a", ["libmissing.so.1"])
    with pytest.raises(tree.BuildError, match=r"usr/bin/a needs libmissing.so.1"):
        tree.with_libraries(tmp_path, ["usr/bin/a"], ["usr/lib"])


def test_library_of_the_layer_below_is_not_brought_again(tmp_path: Path) -> None:
    elf(tmp_path / "usr/bin/a", ["libb.so.1"])
    elf(tmp_path / "usr/lib/libb.so.1", [])
    below = ["usr/lib/x86_64-linux-gnu/libb.so.1"]
    assert tree.with_libraries(tmp_path, ["usr/bin/a"], ["usr/lib"], below) == ["usr/bin/a"]


@pytest.mark.parametrize("put", [tree.copy, tree.move])
def test_no_set_id_bit_and_no_odd_mode_gets_in(tmp_path: Path, put: Callable[..., None]) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    source.mkdir()
    for name, mode in (("program", 0o6711), ("data", 0o666)):
        (source / name).write_bytes(b"x")
        (source / name).chmod(mode)
    (source / "link").symlink_to("data")
    put(source, ["program", "data", "link"], target)
    assert (target / "program").stat().st_mode & 0o7777 == 0o755
    assert (target / "data").stat().st_mode & 0o7777 == 0o644
    assert (target / "link").readlink() == Path("data")


def test_device_or_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(tree.BuildError, match="neither a file nor a link"):
        tree.copy(tmp_path, ["pipe"], tmp_path / "target")


@pytest.mark.parametrize("name", ["usr/bin/sh", "opt/x/busybox", "bin/bash"])
def test_shell_is_refused_also_as_a_link(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).symlink_to("anything")
    with pytest.raises(tree.BuildError, match=name):
        tree.refuse_shells(tmp_path)


def test_tree_without_shell_passes(tmp_path: Path) -> None:
    (tmp_path / "python3").write_bytes(b"")
    tree.refuse_shells(tmp_path)


@pytest.mark.parametrize(
    ("packaged", "there"),
    [("./lib/firmware/a", "usr/lib/firmware/a"), ("./usr/lib/a", "usr/lib/a"), ("./lib", "lib")],
)
def test_paths_are_spelt_as_in_a_merged_root(packaged: str, there: str) -> None:
    assert tree.merged(packaged) == there
