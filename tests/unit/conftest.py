"""SIMULATED vendors and machines that the tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.production import Production
from tests.support.simulated_gpu import SimulatedGpu, SimulatedNvidia
from tests.support.simulated_vendors import Page, SimulatedVendors, pages_of


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


@pytest.fixture(scope="session")
def nvidia() -> SimulatedNvidia:
    """One for all tests: its keys are slow to make."""
    return SimulatedNvidia()


@pytest.fixture(scope="session")
def gpu(nvidia: SimulatedNvidia) -> SimulatedGpu:
    return nvidia.gpu()
