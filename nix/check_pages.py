"""Check what is written about the source: schemas, error codes, decisions, names in pages, layout.

They are tests, which `make test` runs too. Reads the environment: checkout, out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = (
    "tests/unit/docs",
    "tests/unit/test_layout.py",
    "tests/unit/measure/test_report.py::test_the_committed_schema_is_the_declared_one",
    "tests/unit/protocol/test_manifest.py::test_the_committed_schema_is_current",
)


def main() -> None:
    """Fail if one of the tests does."""
    shutil.copytree(os.environ["checkout"], "checkout", copy_function=shutil.copyfile)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    if subprocess.run(command, cwd="checkout", check=False).returncode:
        raise SystemExit("a page or a schema is not what the source says; see above")
    Path(os.environ["out"]).touch()


if __name__ == "__main__":
    main()
