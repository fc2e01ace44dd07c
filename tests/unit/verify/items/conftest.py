"""Simulated vendors that are believed, and what they say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.production import Production


@pytest.fixture(scope="package")
def made() -> Production:
    return Production()


@pytest.fixture(autouse=True)
def pinned(made: Production) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        made.pin(monkeypatch)
        yield
