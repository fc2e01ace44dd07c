"""The Makefile passes paths on as they are: that of the checkout, and those that users give."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAKEFILE = ROOT / "Makefile"
PROGRAMS = (".ci/bootstrap", "nix/fetch.py", "nix/lock.py", "nix/run", "nix/reproduce.py")
PYTHON = "result-test/python/bin/python"
# Writes its name and arguments as a line of the file `calls`.
RECORDER = f"""#!{os.path.realpath(sys.executable)}
import json, sys
with open("calls", "a") as file:
    print(json.dumps([sys.argv[0], sys.argv[1:]]), file=file)
"""
Call = tuple[str, list[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile in a folder whose path has what make and shell would read as their own."""
    folder = tmp_path / "a b#c?d[e]*%20f é&'\""
    for name in (*PROGRAMS, PYTHON):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(RECORDER)
        (folder / name).chmod(0o755)
    shutil.copy(MAKEFILE, folder)
    return folder


def make(checkout: Path, *arguments: str) -> list[Call]:
    """The programs that make has started."""
    environment = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    subprocess.run(["make", "-s", *arguments], cwd=checkout, env=environment, check=True)
    return [tuple(json.loads(line)) for line in (checkout / "calls").read_text().splitlines()]


def test_options_for_pytest_keep_their_words(checkout: Path) -> None:
    program, arguments = make(checkout, "test", "ARGS=-k 'this and that'")[-1]
    assert program == PYTHON
    assert arguments[-2:] == ["-k", "this and that"]


@pytest.mark.parametrize(
    ("target", "variable", "program", "option"),
    [
        ("fetch", "DRIVER", "nix/fetch.py", "--folder"),
        ("fetch", "DEBIAN_MIRROR", "nix/fetch.py", "--debian-mirror"),
        ("lock", "DRIVER", "nix/lock.py", "--driver"),
        ("lock", "DEBIAN_MIRROR", "nix/lock.py", "--debian-mirror"),
    ],
)
def test_a_path_of_the_user_s_is_one_argument(
    checkout: Path, target: str, variable: str, program: str, option: str
) -> None:
    value = "file:/a folder/with 'quotes'; *"
    calls = make(checkout, target, f"{variable}={value}")
    assert [arguments for name, arguments in calls if name == program] == [[option, value]]


def test_check_fetches_what_every_check_of_the_flake_needs() -> None:
    checks = (ROOT / "nix/checks.nix").read_text().partition("\nin\n{")[2]
    outputs = re.findall(r"^  ([a-z-]+) = ", checks, re.MULTILINE)
    listed = re.search(r"^CHECKS = (.*)$", MAKEFILE.read_text(), re.MULTILINE)
    assert listed
    assert sorted(listed[1].split()) == sorted(outputs)
