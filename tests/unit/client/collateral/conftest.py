"""What the tests of collateral share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from confide.client.collateral.cache import Cache
from confide.client.collateral.finder import Finder
from confide.protocol.collateral import Bundle
from tests.support.simulated_amd import NOW
from tests.support.simulated_vendors import MakeFinder, SimulatedVendors


@pytest.fixture
def problems() -> list[str]:
    """What a finder has reported."""
    return []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def make_finder(vendors: SimulatedVendors, problems: list[str], folder: Path) -> MakeFinder:
    """A finder as a new process has it: at this time, with this bundle, the folder as it is."""

    def make(
        now: int = NOW, bundle: Bundle | None = None, *, online: bool = True, **changes: Any
    ) -> Finder:
        return Finder(
            bundle or Bundle(),
            cache=Cache(folder, problems.append),
            fetcher=vendors.fetcher(now, **changes) if online else None,
            report=problems.append,
            clock=lambda: now,
        )

    return make
