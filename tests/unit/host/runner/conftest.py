"""Stand-ins for QEMU, swtpm and the firmware, and the real ones where $CONFIDE_QEMU names them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from confide.host.runner.qemu import TOOLS_VARIABLE, Tools


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


@pytest.fixture
def real_tools() -> Tools:
    """The flake's QEMU and swtpm; without them the test is skipped, in CI it fails."""
    if not os.environ.get(TOOLS_VARIABLE):
        reason = f"{TOOLS_VARIABLE} not set: run `make test`, which builds QEMU and swtpm"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return Tools.find()
