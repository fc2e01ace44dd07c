"""A committed file that the source makes no more fails the check, which says what to do."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "nix/check-current.sh"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The check's environment; this machine's own programs stand in for busybox."""
    (tmp_path / "bin").mkdir()
    busybox = tmp_path / "bin/busybox"
    busybox.write_text('#!/bin/sh\nexec "$@"\n')
    busybox.chmod(0o755)
    for name in ("committed", "built"):
        (tmp_path / name).write_text("coordinator\nworker\n")
    paths = {name: str(tmp_path / name) for name in ("committed", "built", "out")}
    return paths | {"seed": str(tmp_path), "file": "references.json", "renew": "make references"}


def check(files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    path = {"PATH": str(Path(str(shutil.which("diff"))).parent)}
    return subprocess.run(
        ["/bin/sh", "-eu", str(SCRIPT)], env=files | path, capture_output=True, text=True
    )


def test_equal_files_pass(files: dict[str, str]) -> None:
    assert check(files).returncode == 0
    assert Path(files["out"]).exists()


def test_a_stale_file_fails_and_names_the_remedy(files: dict[str, str]) -> None:
    Path(files["built"]).write_text("coordinator\nother worker\n")
    result = check(files)
    assert result.returncode == 1
    assert "-worker\n+other worker" in result.stdout
    assert "release/references.json (-) is not what this source builds (+)" in result.stderr
    assert "make references, review the difference, commit it" in result.stderr
    assert not Path(files["out"]).exists()
