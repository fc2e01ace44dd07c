"""A SIMULATED platform under a simulated root that only these tests believe in."""

from __future__ import annotations

from typing import Any

import pytest

from confide.protocol.evidence import Evidence
from confide.verify import roots
from confide.verify.verdict import Verdict
from tests.support.intel_certificates import NOW
from tests.support.judged import judge_tdx
from tests.support.simulated_intel import (
    BINDING,
    EVENT_LOG,
    POLICY,
    REFERENCE,
    REPORT,
    SimulatedIntel,
)
from tests.support.verdicts import Verify


@pytest.fixture
def intel() -> SimulatedIntel:
    return SimulatedIntel()


@pytest.fixture
def verify(intel: SimulatedIntel, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Verifies a quote (by default a good one) with the simulated root in the place of Intel's."""
    monkeypatch.setattr(roots, "INTEL_SGX", intel.pinned)

    def call(quote: bytes | None = None, **changes: Any) -> Verdict:
        evidence = Evidence("tdx", intel.quote() if quote is None else quote, (), EVENT_LOG)
        arguments: dict[str, Any] = {
            "report_data": REPORT.report_data,
            "references": [REFERENCE],
            "policy": POLICY,
            "binding": BINDING,
            "collateral": intel.collateral(),
            "now": NOW,
        }
        return judge_tdx(changes.pop("evidence", evidence), **(arguments | changes))

    return call
