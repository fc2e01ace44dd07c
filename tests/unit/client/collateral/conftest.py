"""SIMULATED vendors and machines that the tests of collateral share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from confide.client.collateral.cache import Cache
from confide.client.collateral.finder import Finder
from confide.protocol.collateral import Bundle
from tests.support.production import Production
from tests.support.simulated_amd import NOW
from tests.support.simulated_vendors import MakeFinder, Page, SimulatedVendors, pages_of


@pytest.fixture(scope="session")
def made() -> Production:
    return Production()


@pytest.fixture
def production(made: Production, monkeypatch: pytest.MonkeyPatch) -> Production:
    made.pin(monkeypatch)
    return made


@pytest.fixture(scope="session")
def pages(made: Production) -> dict[str, Page]:
    return pages_of(made)


@pytest.fixture
def vendors(production: Production, pages: dict[str, Page]) -> Iterator[SimulatedVendors]:
    """Vendors that the test may change; the machines' roots are pinned."""
    with SimulatedVendors(pages) as started:
        yield started


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
