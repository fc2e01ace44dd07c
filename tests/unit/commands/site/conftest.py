from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.production import Production
from tests.support.registering import at, unbound, write_release
from tests.support.simulated_amd import NOW


@pytest.fixture
def machines(production: Production, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Production:
    """Unbound machines, in an empty folder with a release, at the simulated time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    at(monkeypatch, NOW)
    made = unbound(production)
    write_release(made)
    return made
