"""How a unit of an engine becomes the engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from confide.errors import FormatError
from confide.guest.worker.engine.launch import Launch
from confide.guest.worker.engine.place import place_of
from confide.protocol.configdisk import MAX_MODELS
from tests.support.programs import ROOT

IMAGES = ROOT / "images"


def launched(folder: Path, launch: Launch) -> subprocess.CompletedProcess[str]:
    (folder / "3.json").write_bytes(launch.encode())
    code = (
        "import sys; from pathlib import Path\n"
        "from confide.guest.worker.engine import launch\n"
        f"launch.LAUNCHES = Path({str(folder)!r})\n"
        "sys.argv = ['launch', '3']\n"
        "launch.main()"
    )
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "A": "b"}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def test_the_engine_inherits_nothing(tmp_path: Path) -> None:
    code = "import os, sys; print(sys.argv[1:], dict(os.environ), os.listdir('/proc/self/fd'))"
    program = (sys.executable, "-E", "-c", code, "a b", "--c=d")
    ended = launched(tmp_path, Launch(program, {"ONLY": "this", "LC_CTYPE": "C.UTF-8"}))
    # The fourth is the folder that it lists.
    expected = "['a b', '--c=d'] {'LC_CTYPE': 'C.UTF-8', 'ONLY': 'this'} ['0', '1', '2', '3']\n"
    assert ended.stdout == expected, ended.stderr


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    ended = launched(tmp_path, Launch(("/nonexistent/python",), {}))
    assert ended.returncode == 1
    assert "FileNotFoundError" in ended.stderr


@pytest.mark.parametrize(
    "data",
    [b"", b"{}\n", Launch(("a",), {}).encode()[:-1], Launch(("a",), {}).encode() + b"\n"],
)
def test_a_file_that_is_none(data: bytes) -> None:
    with pytest.raises(FormatError):
        Launch.parse(data)


def test_a_launch_has_a_program() -> None:
    with pytest.raises(FormatError):
        Launch.parse(Launch((), {}).encode())


@pytest.mark.parametrize("number", range(1, MAX_MODELS + 1))
def test_every_engine_has_a_user_and_a_group_in_the_images(number: int) -> None:
    user = place_of(number).user
    etc = IMAGES / "base/tree/etc"
    users = [line.split(":") for line in (etc / "passwd").read_text().splitlines()]
    groups = [line.split(":") for line in (etc / "group").read_text().splitlines()]
    name = f"engine-{number}"
    assert [line[2:4] for line in users if line[0] == name] == [[str(user), str(user)]]
    assert [line[2:] for line in groups if line[0] == name] == [[str(user), ""]]
    for lines in (users, groups):
        assert [line[0] for line in lines if line[2] == str(user)] == [name]
