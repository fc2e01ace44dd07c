"""Compile Python files to .pyc files that are the same wherever and whenever they are made.

"Unchecked hash" files hold no time stamp and are never compared with their source, which is
read-only.
"""

from __future__ import annotations

import multiprocessing
import py_compile
from pathlib import Path

# How a string was shared before shows in a .pyc file. So the files are dealt to a fixed number of
# fresh processes in a fixed order, not to as many as there are cores.
PROCESSES = 4


def compile_tree(root: Path) -> None:
    """Compile every .py file under `root`; one that is not valid for this Python stays as it is."""
    files = sorted(root.rglob("*.py"))
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_compile, args=(root, files[part::PROCESSES]))
        for part in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit(f"error: compiling {root} ended with status {process.exitcode}")


def _compile(root: Path, files: list[Path]) -> None:
    for file in files:
        try:
            py_compile.compile(
                str(file),
                dfile=str(file.relative_to(root)),
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
        except py_compile.PyCompileError:
            continue
