"""Stand-ins for QEMU, swtpm and the firmware."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from confide.host.runner.qemu import Tools


@pytest.fixture
def make_tools(tmp_path: Path) -> Callable[..., Tools]:
    """Tools whose two programs are shell scripts."""

    def make(*, qemu: str = "exit 1", swtpm: str = "exit 1") -> Tools:
        tools = Tools(tmp_path / "tools")
        for path, text in ((tools.qemu, qemu), (tools.swtpm, swtpm)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
        for path in (tools.firmware, tools.variables):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(4096))
        return tools

    return make
