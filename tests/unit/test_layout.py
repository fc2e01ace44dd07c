"""The tree: tests mirror the product and share through tests/support, and no file is too long."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
FOLDERS = sorted(path for path in (TESTS / "unit").rglob("*") if any(path.glob("test_*.py")))
OUTSIDE_PY = {"measure", "nix", "docs", "release"}
WRITTEN = sorted(
    path
    for folder in ("py", "measure", "nix", "images", "tests")
    for suffix in ("py", "nix")
    for path in (ROOT / folder).rglob(f"*.{suffix}")
)
MAX_LINES = 400


def imported(path: Path) -> Iterator[str]:
    """Each module, and each name in a module, that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide which module is meant"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    "path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS))
)
def test_nothing_is_imported_from_a_test_or_a_conftest(path: Path) -> None:
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "tests":
            continue
        assert not any(part == "conftest" or part.startswith("test_") for part in parts), (
            f"{path} imports {name}: move what it needs to tests/support"
        )


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(TESTS)))
def test_each_folder_of_unit_tests_mirrors_the_product(folder: Path) -> None:
    """It has the place of a folder, or of a module that takes several files of tests."""
    mirrored = folder.relative_to(TESTS / "unit")
    product = (ROOT if mirrored.parts[0] in OUTSIDE_PY else ROOT / "py/confide") / mirrored
    assert product.is_dir() or product.with_suffix(".py").is_file(), (
        f"{folder} tests nothing in the product: there is no {product}"
    )


def test_no_file_is_too_long() -> None:
    assert WRITTEN
    long = {
        str(path.relative_to(ROOT)): lines
        for path in [ROOT / "flake.nix", *WRITTEN]
        if (lines := path.read_text().count("\n")) > MAX_LINES
    }
    assert not long, f"more than {MAX_LINES} lines: split each along its subjects"


def test_pytest_needs_no_environment() -> None:
    """It finds the code in py/, measure/ and nix/ by itself."""
    folders = ["tests/unit/encoding", "tests/unit/nix"]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    environment = {"PATH": os.environ["PATH"]}
    ended = subprocess.run(
        [*command, *folders], cwd=ROOT, env=environment, check=False, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert all(f"{folder}/" in ended.stdout for folder in folders)
