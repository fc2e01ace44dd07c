"""The one fixture that all tests share: where the recorded test data is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of recorded vectors: $CONFIDE_VECTORS, else ../shared/vectors beside the checkout.

    Without it a test is skipped, except under CI, where it would pass by not running.
    """
    default = Path(__file__).resolve().parents[2] / "shared" / "vectors"
    folder = Path(os.environ.get("CONFIDE_VECTORS") or default)
    if not folder.is_dir():
        message = f"no test vectors in {folder}; set CONFIDE_VECTORS to their folder"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder
