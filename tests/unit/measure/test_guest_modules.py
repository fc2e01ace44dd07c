"""The modules that a measured machine runs are few and need nothing else."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import measure

FOLDER = Path(measure.__file__).parent


def guest_modules() -> set[str]:
    """The list in the package's docstring."""
    lines = (measure.__doc__ or "").splitlines()
    (listed,) = (line for line in lines if re.fullmatch(r" {4}__init__(  [a-z]+)+", line))
    return set(listed.split())


def imported(file: Path) -> set[str]:
    """The modules that a file imports, also within functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            module = node.module or ""
            found |= {f"measure.{a.name}" for a in node.names} if module == "measure" else {module}
    return found


def test_guest_modules_import_each_other_and_the_standard_library() -> None:
    modules = guest_modules()
    assert {"declare", "eventlog"} < modules
    for module in modules:
        for name in imported(FOLDER / f"{module}.py"):
            top, _, rest = name.partition(".")
            assert top in sys.stdlib_module_names or (top == "measure" and rest in modules), name


def test_measure_imports_nothing_of_confide() -> None:
    allowed = sys.stdlib_module_names | {"measure", "cbor2"}
    for file in FOLDER.rglob("*.py"):
        for name in imported(file):
            assert name.partition(".")[0] in allowed, f"{file.name}: {name}"


def test_cbor2_is_imported_in_one_module() -> None:
    users = [
        f.name
        for f in FOLDER.rglob("*.py")
        if "cbor2" in {n.partition(".")[0] for n in imported(f)}
    ]
    assert users == ["cbor.py"]
