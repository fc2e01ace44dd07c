"""The client as pip installs it: only what the wheel brings, and nothing of the checkout."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.installed import Installed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The flake's wheel, installed by the machine's own pip."""
    wheels = list((ROOT / "result-wheel").glob("*.whl"))
    python = shutil.which("python3")
    if not wheels or python is None:
        pytest.fail("nothing to install: run `make test-install`, which builds the wheel")
    folder, home = tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("home")
    command = [python, "-m", "pip", "install", "--quiet", "--no-input", "--target", str(folder)]
    subprocess.run([*command, str(wheels[0])], check=True, cwd=home)
    return Installed(folder, home, python)
