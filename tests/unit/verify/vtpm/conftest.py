"""A TPM in Python, and a verifier that believes in it."""

from __future__ import annotations

from typing import Any

import pytest

from confide.host.development_ca import development_ca_spki_sha256
from confide.protocol.evidence import Evidence
from confide.protocol.policy.vtpm import DevelopmentCa
from confide.verify.verdict import Verdict
from tests.support.fake_tpm import BINDING, NOW, REPORT_DATA, FakeTpm
from tests.support.judged import judge_vtpm
from tests.support.verdicts import Verify


@pytest.fixture
def tpm() -> FakeTpm:
    return FakeTpm()


@pytest.fixture
def verify(tpm: FakeTpm) -> Verify:
    """Verifies evidence against `tpm`'s own registers, unless told otherwise."""

    def call(evidence: Evidence, **changes: Any) -> Verdict:
        arguments: dict[str, Any] = {
            "report_data": REPORT_DATA,
            "references": [FakeTpm().reference()],
            "authority": DevelopmentCa(development_ca_spki_sha256()),
            "binding": BINDING,
            "now": NOW,
        }
        return judge_vtpm(evidence, **(arguments | changes))

    return call
