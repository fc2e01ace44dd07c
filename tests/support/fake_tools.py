"""Stand-ins for QEMU, swtpm and the firmware."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from confide.host.runner.qemu import Tools


class MakeTools(Protocol):
    """Makes tools of two shell scripts."""

    def __call__(self, *, qemu: str = ..., swtpm: str = ...) -> Tools: ...


def fake_tools(root: Path, *, qemu: str = "exit 1", swtpm: str = "exit 1") -> Tools:
    """Tools in a folder whose two programs are shell scripts."""
    tools = Tools(root)
    for path, text in ((tools.qemu, qemu), (tools.swtpm, swtpm)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    for path in (tools.firmware, tools.variables):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(4096))
    return tools
