"""The check of contracts fails for an import that a contract forbids, and names it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[3] / "nix/check_contracts.py"
CONFIG = """
[tool.importlinter]
root_packages = ["confide", "measure"]
[[tool.importlinter.contracts]]
name = "measure stands alone"
type = "forbidden"
source_modules = ["measure"]
forbidden_modules = ["confide"]
"""


@pytest.mark.parametrize(
    ("text", "status"), [("import os\n", 0), ("import confide.errors\n", 1)], ids=["kept", "broken"]
)
def test_a_forbidden_import_fails_the_check(tmp_path: Path, text: str, status: int) -> None:
    pytest.importorskip("importlinter")
    for name in ("py/confide/__init__.py", "py/confide/errors.py", "measure/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "measure/report.py").write_text(text)
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "build").mkdir()
    variables = {"config": "config.toml", "py": "py", "measure": "measure", "out": "out"}
    result = subprocess.run(
        [sys.executable, str(CHECK)],
        cwd=tmp_path / "build",
        env=os.environ | {name: str(tmp_path / place) for name, place in variables.items()},
        capture_output=True,
        text=True,
    )
    assert result.returncode == status
    assert ("measure.report -> confide.errors" in result.stdout) is bool(status)
    assert (tmp_path / "out").exists() is not bool(status)
