"""The client as pip installs it: only what the wheel brings, and nothing of the checkout."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.installed import Installed


@pytest.fixture(scope="session")
def installed(built_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The flake's wheel, installed by the machine's own pip."""
    (wheel,) = built_wheel.glob("*.whl")
    python = shutil.which("python3")
    assert python is not None, "there is no python3 in $PATH"
    folder, home = tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("home")
    command = [python, "-m", "pip", "install", "--quiet", "--no-input", "--target", str(folder)]
    subprocess.run([*command, str(wheel)], check=True, cwd=home)
    return Installed(folder, home, python)
