"""Every TDX machine that is measured boots directly: a boot from disk can be imitated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

IMAGES = Path(__file__).parents[3] / "images"


@pytest.mark.parametrize("path", sorted(IMAGES.glob("shapes*.json")), ids=lambda path: path.name)
def test_tdx_shapes_are_direct(path: Path) -> None:
    """See docs/advisories/002: in a direct boot the kernel's digest is the first in RTMR 1."""
    shapes = json.loads(path.read_text())["tdx"]
    assert {shape["boot"] for shape in shapes} == {"direct"}
