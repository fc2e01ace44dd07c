"""Reads tests/vectors/protocol.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
VECTORS: dict[str, Any] = json.loads((ROOT / "tests/vectors/protocol.json").read_text())


def b(*path: str) -> bytes:
    """A byte string of the file, by its path."""
    value: Any = VECTORS
    for step in path:
        value = value[step]
    return bytes.fromhex(value)


def manifest_bytes() -> bytes:
    text: str = VECTORS["manifest"]["text"]
    return text.encode()
