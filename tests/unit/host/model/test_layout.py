"""mkfs.erofs lays a disk out without any data; what else it could make is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from confide.errors import ConfigError
from confide.host.model.layout import Layout, make_layout
from confide.host.model.source import Source, SourceFile


def source(*sizes: int) -> Source:
    files = (SourceFile(f"weights-{n}", Path("/none"), size, 0) for n, size in enumerate(sizes))
    return Source(Path("/none"), tuple(files), ())


def test_hundreds_of_gigabytes_take_no_space(model_tools: Path, tmp_path: Path) -> None:
    layout = make_layout(source(300 << 30, 5, 250 << 30, 0), model_tools, tmp_path)
    assert [piece.file.path for piece in layout.pieces] == ["weights-0", "weights-1", "weights-2"]
    first, second, third = (piece.offset for piece in layout.pieces)
    assert second >= first + (300 << 30)
    assert third == second + 4096
    assert layout.data_blocks * 4096 >= third + (250 << 30)
    assert layout.image.stat().st_blocks * 512 < 1 << 20


def fake_tools(folder: Path, *, mkfs: str = "", dump: str = "") -> Path:
    """Tools where `mkfs` is run after an image of 8 blocks is made, and `dump` prints."""
    (folder / "bin").mkdir(parents=True)
    make = 'for a; do case $a in *data.erofs) truncate -s 32768 "$a";; esac; done'
    for name, lines in (("mkfs.erofs", f"{make}\n{mkfs}"), ("dump.erofs", dump)):
        program = folder / "bin" / name
        program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{lines}\n")
        program.chmod(0o755)
    return folder


def layout_by(tmp_path: Path, **fakes: str) -> Layout:
    return make_layout(source(5000), fake_tools(tmp_path / "tools", **fakes), tmp_path)


def extent(start: int, length: int, *, number: int = 1) -> str:
    return (
        f"echo '   0:        0..    {length} |  {length} :     {start}..  {start + length} |   "
        f"{length}'; echo '/weights-0: {number} extents found'"
    )


def test_output_of_a_fake(tmp_path: Path) -> None:
    """The fakes below differ from this one, which is accepted, in one thing each."""
    layout = layout_by(tmp_path, dump=extent(4096, 8192))
    assert [piece.offset for piece in layout.pieces] == [4096]
    assert layout.data_blocks == 8


@pytest.mark.parametrize(
    "dump",
    [
        pytest.param("", id="says nothing"),
        pytest.param(extent(4096, 4096), id="too short"),
        pytest.param(extent(4096, 12288), id="too long"),
        pytest.param(extent(0, 8192), id="a hole"),
        pytest.param(extent(4097, 8192), id="between blocks"),
        pytest.param(extent(28672, 8192), id="beyond the end"),
        pytest.param(extent(4096, 8192, number=2), id="two pieces"),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, dump: str) -> None:
    with pytest.raises(ConfigError, match="unexpected layout"):
        layout_by(tmp_path, dump=dump)


def test_overlapping_files_are_refused(tmp_path: Path) -> None:
    tools = fake_tools(tmp_path / "tools", dump=extent(4096, 8192))
    with pytest.raises(ConfigError, match="unexpected layout"):
        make_layout(source(5000, 5000), tools, tmp_path)


def test_a_tool_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mkfs\.erofs could not.* 3: no more inodes"):
        layout_by(tmp_path, mkfs="echo no more inodes >&2; exit 3")


def test_no_tools(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mkfs\.erofs cannot be started") as caught:
        make_layout(source(1), tmp_path, tmp_path)
    assert "model-tools" in caught.value.next
