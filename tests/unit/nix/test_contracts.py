"""The check of contracts fails for an import that a contract forbids, and names it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHECK = ROOT / "nix/check_contracts.py"
CONFIG = """
[tool.importlinter]
root_packages = ["confide", "measure"]
[[tool.importlinter.contracts]]
name = "measure stands alone"
type = "forbidden"
source_modules = ["measure"]
forbidden_modules = ["confide"]
"""


@pytest.mark.parametrize(
    ("text", "status"), [("import os\n", 0), ("import confide.errors\n", 1)], ids=["kept", "broken"]
)
def test_a_forbidden_import_fails_the_check(tmp_path: Path, text: str, status: int) -> None:
    pytest.importorskip("importlinter")
    for name in ("py/confide/__init__.py", "py/confide/errors.py", "measure/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "measure/report.py").write_text(text)
    (tmp_path / "config.toml").write_text(CONFIG)
    result = check(tmp_path)
    assert result.returncode == status
    assert ("measure.report -> confide.errors" in result.stdout) is bool(status)
    assert (tmp_path / "out").exists() is not bool(status)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("py/confide/guest/codes.py", "import confide.host.codes"),
        ("py/confide/host/codes.py", "import confide.client.codes"),
        ("py/confide/client/codes.py", "import confide.guest.codes"),
        ("py/confide/verify/codes.py", "import confide.guest.attest.tsm"),
        ("py/confide/guest/attest/tsm.py", "import confide.verify.codes"),
        ("py/confide/client/codes.py", "import flask"),
        ("py/confide/client/codes.py", "import argparse"),
        ("py/confide/client/codes.py", "import tests.support"),
        ("py/confide/__init__.py", "import confide.client.codes"),
        ("py/confide/new_room.py", ""),
        ("measure/reader.py", "import argparse"),
        ("measure/reader.py", "import confide.errors"),
        ("measure/reader.py", "import tests.support"),
    ],
)
def test_the_contracts_of_this_project_are_strict(tmp_path: Path, file: str, text: str) -> None:
    pytest.importorskip("importlinter")
    for name in ("py", "measure"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "config.toml")
    with (tmp_path / file).open("a") as opened:
        opened.write(f"{text}\n")
    result = check(tmp_path)
    assert result.returncode == 1
    assert "BROKEN" in result.stdout


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the check over `folder` as its derivation does."""
    (folder / "build").mkdir()
    variables = {"config": "config.toml", "py": "py", "measure": "measure", "out": "out"}
    return subprocess.run(
        [sys.executable, str(CHECK)],
        cwd=folder / "build",
        env=os.environ | {name: str(folder / place) for name, place in variables.items()},
        capture_output=True,
        text=True,
    )
