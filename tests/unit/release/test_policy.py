"""What the committed production manifest and its policy accept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

RELEASE = Path(__file__).resolve().parents[3] / "release"


@pytest.mark.parametrize("name", ["policy.json", "production.json"])
def test_sev_snp_is_out_until_what_is_attested_is_what_runs(name: str) -> None:
    value: dict[str, Any] = json.loads((RELEASE / name).read_bytes())
    assert list(value["platforms"]) == ["tdx"]
    assert "sev-snp" not in json.dumps(value)
