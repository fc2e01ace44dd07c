"""Compile Python files to .pyc files that are the same wherever and whenever they are made.

"Unchecked hash" files (PEP 552) hold no time stamp and are never compared with their source, which
is read-only. The code is written in version 2 of the marshal format: later versions write an object
once and refer to it where it comes again, and whether they do depends on what the interpreter had
interned before, and so on its environment and memory layout. It costs 2 % after compression.
"""

from __future__ import annotations

import importlib.util
import marshal
import multiprocessing
import os
import warnings
from functools import partial
from pathlib import Path

MARSHAL_VERSION = 2
UNCHECKED_HASH = 1  # the .pyc file's flags word


def compile_tree(root: Path) -> None:
    """Compile every .py file under `root`; one that is not valid for this Python stays as it is."""
    files = sorted(root.rglob("*.py"))
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        pool.map(partial(_compile, root), files, chunksize=16)


def _compile(root: Path, file: Path) -> None:
    source = file.read_bytes()
    warnings.simplefilter("ignore")
    try:
        code = compile(source, str(file.relative_to(root)), "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return
    target = Path(importlib.util.cache_from_source(str(file)))
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(
        importlib.util.MAGIC_NUMBER
        + UNCHECKED_HASH.to_bytes(4, "little")
        + importlib.util.source_hash(source)
        + marshal.dumps(code, MARSHAL_VERSION)
    )
