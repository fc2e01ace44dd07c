"""What runs in machines needs nothing of what nix/images.nix leaves out of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAMS = (
    "confide.coordinator.__main__",
    "confide.secret_service.__main__",
    "confide.worker.__main__",
    "confide.worker.disks",
    "confide.worker.engine",
)


@pytest.fixture(scope="module")
def guest_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code as it is in a machine."""
    images = (ROOT / "nix/images.nix").read_text()
    match = re.search(r"guestCode = lib\.folderWithout .*? \[(.*?)\];", images, re.DOTALL)
    assert match
    left_out = re.findall(r'"(.*?)"', match[1])
    folder = tmp_path_factory.mktemp("guest")
    shutil.copytree(ROOT / "measure", folder / "measure")
    shutil.copytree(ROOT / "py/confide", folder / "confide")
    for name in left_out:
        path = folder / "confide" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_of_machines_import_without_the_client(guest_code: Path, program: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(guest_code)!r}); import {program}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=guest_code, env={})


def test_every_lazy_import_is_there_too(guest_code: Path) -> None:
    """Also the imports within functions name modules that are in the machine."""
    for file in (guest_code / "confide").rglob("*.py"):
        for name in re.findall(r"^\s*(?:from|import) (confide[\w.]*)", file.read_text(), re.M):
            path = guest_code / name.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").is_file(), f"{file}: {name}"
