"""What runs in machines needs nothing but what nix/images.nix puts into them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAMS = (
    "confide.guest.coordinator.__main__",
    "confide.guest.attest.__main__",
    "confide.guest.secret_service.__main__",
    "confide.guest.worker.__main__",
    "confide.guest.worker.disks.mounter",
    "confide.guest.worker.engine.program",
)


@pytest.fixture(scope="module")
def guest_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code as it is in a machine."""
    folder = tmp_path_factory.mktemp("guest")
    for package, path, definition in (
        ("confide", ROOT / "py/confide", "guestCode"),
        ("measure", ROOT / "measure", "guestMeasure"),
    ):
        (folder / package).mkdir()
        for name in names_in_list(definition):
            copy = shutil.copytree if (path / name).is_dir() else shutil.copyfile
            copy(path / name, folder / package / name)
    return folder


def names_in_list(definition: str) -> list[str]:
    """The strings in the list of a definition in nix/images.nix."""
    images = (ROOT / "nix/images.nix").read_text()
    match = re.search(definition + r" = \w+\.folderOnly .*? \[(.*?)\];", images, re.DOTALL)
    assert match
    return re.findall(r'"(.*?)"', match[1])


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_of_machines_import_without_the_client(guest_code: Path, program: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(guest_code)!r}); import {program}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=guest_code, env={})


def test_every_lazy_import_is_there_too(guest_code: Path) -> None:
    """Also the imports within functions name modules that are in the machine."""
    for file in guest_code.rglob("*.py"):
        for name in imported(file):
            path = guest_code / name.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").is_file(), f"{file}: {name}"


def imported(file: Path) -> list[str]:
    """The modules of ours that a file imports anywhere; of measure/, each by its own name."""
    text = file.read_text()
    found = re.findall(r"^\s*(?:from|import) ((?:confide|measure)[\w.]*)", text, re.M)
    for names in re.findall(r"^\s*from measure import (.+)$", text, re.M):
        found += [f"measure.{name.split()[0]}" for name in names.split(",")]
    return found
