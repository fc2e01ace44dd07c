"""What the committed policy accepts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RELEASE = Path(__file__).resolve().parents[3] / "release"


def test_sev_snp_is_out_until_what_is_attested_is_what_runs() -> None:
    value: dict[str, Any] = json.loads((RELEASE / "policy.json").read_bytes())
    assert list(value["platforms"]) == ["tdx"]
    assert "sev-snp" not in json.dumps(value)
