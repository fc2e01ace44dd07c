"""Verifies evidence, services and receipts: what a client, a node or an auditor checks.

No I/O, and no clock: the caller brings the bytes, the nonce that it chose and the time. Bad
evidence makes a `Verdict` that has not passed, so that a person sees how far it went.

One machine's evidence, judged by a manifest (files as `confide verify --save` and a coordinator
write them; `report_data` is the 64 bytes that the evidence must bind):

>>> from confide.protocol.collateral import Bundle
>>> from confide.protocol.manifest import Manifest
>>> from confide.verify import ParsedEvidence, missing_for, verify_evidence
>>> manifest = Manifest.parse(read("manifest.json"))
>>> collateral = Bundle.parse(read("worker.collateral"))
>>> evidence = ParsedEvidence.parse(read("worker.evidence"))
>>> dict(missing_for(evidence, manifest.role("secret-service"), manifest, collateral))
{}
>>> verdict = verify_evidence(
...     evidence,
...     report_data=report_data,
...     manifest=manifest,
...     role="secret-service",
...     collateral=collateral,
...     now=now,
... )
>>> verdict.passed
True
>>> verdict.require()  # raises VerificationError if a check failed
>>> verdict.checks[0].name, verdict.checks[0].expected, verdict.checks[0].seen
('platform', 'sev-snp or tdx', 'tdx')

Stability: the names in `__all__` are provisional until protocol 2. They may change in any release
before it. What a verdict means will not: it has passed only if there were checks and all passed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from confide.verify.collateral import missing_for
    from confide.verify.evidence import verify_evidence, verify_gpu_evidence
    from confide.verify.mesh import verify_leaf
    from confide.verify.nodes import verify_key_exchange, verify_worker
    from confide.verify.parsed import ParsedEvidence
    from confide.verify.receipt import verify_receipt
    from confide.verify.service import verify_coordinator, verify_unset_coordinator
    from confide.verify.verdict import Check, Verdict

__all__ = [
    "Check",
    "ParsedEvidence",
    "Verdict",
    "missing_for",
    "verify_coordinator",
    "verify_evidence",
    "verify_gpu_evidence",
    "verify_key_exchange",
    "verify_leaf",
    "verify_receipt",
    "verify_unset_coordinator",
    "verify_worker",
]

_MODULES = {
    "Check": "verdict",
    "ParsedEvidence": "parsed",
    "Verdict": "verdict",
    "missing_for": "collateral",
    "verify_coordinator": "service",
    "verify_evidence": "evidence",
    "verify_gpu_evidence": "evidence",
    "verify_key_exchange": "nodes",
    "verify_leaf": "mesh",
    "verify_receipt": "receipt",
    "verify_unset_coordinator": "service",
    "verify_worker": "nodes",
}


def __getattr__(name: str) -> object:
    """Loads what is asked for: a program that needs one module does not load all."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
