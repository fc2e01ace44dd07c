"""Compiled files are the same whatever the interpreter saw before, and are used as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NIX = Path(__file__).resolve().parents[3] / "nix"
# A qualified name that is also a constant of the class body: whether the two are one object when
# they are written depends on what is interned.
SOURCE = """
def outer():
    class Inner:
        value = (1.5, "a b", frozenset({"x y", "y z", "z x"}))
    return Inner
"""
COMPILE = "import sys, pathlib, bytecode; bytecode.compile_tree(pathlib.Path(sys.argv[1]))"


def compiled(folder: Path, prelude: str = "", **environment: str) -> bytes:
    """The .pyc file of SOURCE, made by a fresh interpreter after `prelude`."""
    folder.mkdir()
    (folder / "m.py").write_text(SOURCE)
    variables = {"PYTHONPATH": str(NIX), **environment}
    command = [sys.executable, "-B", "-c", f"{prelude}\n{COMPILE}", str(folder)]
    subprocess.run(command, check=True, env=variables)
    (made,) = (folder / "__pycache__").iterdir()
    return made.read_bytes()


def test_what_was_interned_before_does_not_show(tmp_path: Path) -> None:
    keep = "keep = [sys.intern(s) for s in ('outer.<locals>.Inner', 'a b', 'x y')]"
    plain = compiled(tmp_path / "a")
    assert compiled(tmp_path / "b", f"import sys; {keep}") == plain
    assert compiled(tmp_path / "c", PYTHONHASHSEED="1", FILLER="x" * 5000) == plain


def test_python_uses_the_file_without_looking_at_the_source(tmp_path: Path) -> None:
    compiled(tmp_path / "a")
    (tmp_path / "a/m.py").write_text("raise SystemExit('read the source')")
    code = "import m; print(m.outer().value[0], m.outer.__code__.co_filename)"
    command = [sys.executable, "-B", "-c", code]
    variables = {"PYTHONPATH": str(tmp_path / "a")}
    run = subprocess.run(command, check=True, env=variables, capture_output=True, text=True)
    assert run.stdout.split() == ["1.5", str(tmp_path / "a/m.py")]


def test_a_file_that_is_not_valid_stays_and_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("print 'two'")
    (tmp_path / "nul.py").write_bytes(b"x = 1\0")
    (tmp_path / "good.py").write_text("x = 1")
    command = [sys.executable, "-B", "-c", COMPILE, str(tmp_path)]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(NIX)})
    made = [path.name.partition(".")[0] for path in (tmp_path / "__pycache__").iterdir()]
    assert made == ["good"]
