"""Put our own packages side by side into $out and compile them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import bytecode


def main() -> None:
    """Build $out."""
    out = Path(os.environ["out"])
    for package in ("confide", "measure"):
        shutil.copytree(os.environ[package], out / package, copy_function=shutil.copyfile)
    for folder in (out, *(path for path in out.rglob("*") if path.is_dir())):
        folder.chmod(0o755)  # the store's copy is read-only
    bytecode.compile_tree(out)


if __name__ == "__main__":
    main()
