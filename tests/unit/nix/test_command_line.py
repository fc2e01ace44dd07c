"""Words of the measured command line that no boot test without a debug image would miss."""

from __future__ import annotations

from pathlib import Path

import pytest

WORDS = (Path(__file__).parents[3] / "images/cmdline.txt").read_text().splitlines()


@pytest.mark.parametrize("word", ["acpiphp.disable=1", "pcie_ports=compat"])
def test_no_device_comes_later(word: str) -> None:
    assert word in WORDS
