"""A SIMULATED chip under a simulated root that only these tests believe in."""

from __future__ import annotations

from typing import Any

import pytest

from confide.protocol.evidence import Evidence
from confide.protocol.policy.snp import SnpReference
from confide.vendors.amd.report import Product
from confide.verify.snp.collateral import SnpCollateral
from confide.verify.verdict import Verdict
from tests.support.judged import judge_snp
from tests.support.simulated_amd import (
    BINDING,
    LAUNCH_DIGEST,
    NOW,
    SimulatedChip,
    make_crl,
    root,
    root_of,
)
from tests.support.snp_policy import REPORT_DATA, policy
from tests.support.verdicts import Verify


@pytest.fixture
def chip() -> SimulatedChip:
    return SimulatedChip()


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Verifies with the simulated root in the place of AMD's, unless told otherwise."""
    roots = {product: root_of(product) for product in Product}
    monkeypatch.setattr("confide.verify.snp.chain.ROOTS", roots)

    def call(evidence: Evidence | SimulatedChip, **changes: Any) -> Verdict:
        product = Product.MILAN
        if isinstance(evidence, SimulatedChip):
            product = evidence.product
            evidence = evidence.evidence(REPORT_DATA)
        arguments: dict[str, Any] = {
            "report_data": REPORT_DATA,
            "references": [SnpReference("simulated", LAUNCH_DIGEST)],
            "policy": policy(),
            "binding": BINDING,
            "collateral": SnpCollateral(crl=make_crl(issuer=root(product))),
            "now": NOW,
        }
        return judge_snp(evidence, **(arguments | changes))

    return call
