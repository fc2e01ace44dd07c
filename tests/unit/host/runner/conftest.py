"""Stand-ins for QEMU, swtpm and the firmware."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.support.fake_tools import MakeTools, fake_tools


@pytest.fixture
def make_tools(tmp_path: Path) -> MakeTools:
    """Tools whose two programs are shell scripts."""
    return partial(fake_tools, tmp_path / "tools")
