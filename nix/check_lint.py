"""Lint and type-check a copy of the checkout's Python.

Reads the environment: config, py, measure, nix, tests, out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

CONFIG = "pyproject.toml"
TYPED = ("py/confide", "measure", "nix", "tests")


def main() -> None:
    """Run every tool, then fail if any of them did."""
    for name in ("py", "measure", "nix", "tests"):
        shutil.copytree(os.environ[name], name, copy_function=shutil.copyfile)
    shutil.copyfile(os.environ["config"], CONFIG)
    # The scripts in nix/ run from their own folder and import each other from there.
    environment = {**os.environ, "MYPYPATH": "nix", "PYTHONPATH": ""}
    ruff = [sys.executable, "-m", "ruff"]
    failed = [
        command
        for command in (
            [*ruff, "check", "--no-cache", "--config", CONFIG, "."],
            [*ruff, "format", "--no-cache", "--check", "--config", CONFIG, "."],
            [
                sys.executable,
                "-m",
                "mypy",
                "--cache-dir",
                os.devnull,
                "--config-file",
                CONFIG,
                *TYPED,
            ],
        )
        if subprocess.run(command, env=environment, check=False).returncode
    ]
    if failed:
        raise SystemExit("\n".join(f"failed: {' '.join(command)}" for command in failed))
    Path(os.environ["out"]).touch()


if __name__ == "__main__":
    main()
