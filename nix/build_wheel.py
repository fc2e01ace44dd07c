"""Build the wheel that pip installs, with the bits that any machine makes of the same files.

Reads the environment: config (pyproject.toml), license, measure, py, readme, release, out.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hatchling.build import build_wheel

FILES = {"config": "pyproject.toml", "license": "LICENSE", "readme": "README.md"}
FOLDERS = ("measure", "py", "release")


def main() -> None:
    """Build $out, a folder with the wheel."""
    for variable, name in FILES.items():
        shutil.copyfile(os.environ[variable], name)
    for name in FOLDERS:
        shutil.copytree(os.environ[name], name, copy_function=shutil.copyfile)
    out = Path(os.environ["out"])
    out.mkdir()
    print(build_wheel(str(out)))


if __name__ == "__main__":
    main()
