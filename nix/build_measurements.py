"""Measure a disk: everything that measure/ says about it, as files of one folder.

Reads the environment: image (its name), disk (folder of build_disk.py), options (of `measure
image`: what the machines are, and their firmware), out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def measure(command: str, *arguments: str) -> None:
    """Run a command of measure/; its failure, with its message, ends the build."""
    if status := subprocess.run([sys.executable, "-m", "measure", command, *arguments]).returncode:
        sys.exit(status)


def main() -> None:
    """Build $out."""
    out, disk, name = Path(os.environ["out"]), Path(os.environ["disk"]), os.environ["image"]
    out.mkdir()
    inputs = ["--disk", f"{disk}/disk.raw", "--uki", f"{disk}/uki.efi"]
    inputs += os.environ["options"].split()
    report = f"{out}/measurements.json"
    measure("image", "--name", name, *inputs, "--output", report)
    measure("corim", "write", report, "--output", f"{out}/measurements.corim")
    measure("picture", report, "--output", f"{out}/measurements.svg")


if __name__ == "__main__":
    main()
