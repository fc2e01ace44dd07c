"""Check which module may import which: the contracts in pyproject.toml, over a copy of the code.

Reads the environment: config, py, measure, out.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from importlinter import cli

CONFIG = "pyproject.toml"


def main() -> None:
    """Fail unless every contract is kept; the report names each import that breaks one."""
    for name in ("py", "measure"):
        shutil.copytree(os.environ[name], name, copy_function=shutil.copyfile)
    shutil.copyfile(os.environ["config"], CONFIG)
    sys.path[:0] = ["py", "."]
    if cli.lint_imports(config_filenames=(CONFIG,), no_cache=True, no_logo=True):
        raise SystemExit("a contract of pyproject.toml ([tool.importlinter]) is broken; see above")
    Path(os.environ["out"]).touch()


if __name__ == "__main__":
    main()
