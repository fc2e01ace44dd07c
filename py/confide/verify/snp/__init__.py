"""Verifies SEV-SNP evidence: whose chip signed it, what that chip started, and in which state.

Rules that hold for every verdict which passes:
- The report is signed by the key of one chip (VCEK) or one cloud (VLEK) whose certificate chains
  to a root of AMD's that is known by its key; all are valid now, and none is revoked according to
  a list that the root signed and that has not ended.
- That certificate is for the processor, and for the TCB version, that the report states.
- The report binds the caller's data, and its launch digest is one of the manifest's.
- Everything else that the report states has a reference value in the manifest's policy and agrees
  with it; what the policy leaves open is in the verdict, by the name of the opt-out.

Source: AMD 56860 "SEV Secure Nested Paging Firmware ABI", rev. 1.58, 7.3 and chapter 10; AMD 57230
"VCEK Certificate and KDS Interface Specification".
"""

from __future__ import annotations

from collections.abc import Sequence

from confide.errors import FormatError
from confide.protocol.evidence import Evidence
from confide.protocol.policy.snp import SnpPolicy, SnpReference
from confide.vendors.amd.report import Report
from confide.verify.snp.chain import check_chain, check_revocation, load_chain
from confide.verify.snp.collateral import SnpCollateral
from confide.verify.snp.origin import Tcbs, check_origin
from confide.verify.snp.policy import check_policy
from confide.verify.verdict import Check, Verdict, check_equal

_FORMAT = "evidence format"


def verify_snp(
    evidence: Evidence,
    *,
    report_data: bytes,
    references: Sequence[SnpReference],
    policy: SnpPolicy,
    collateral: SnpCollateral,
    now: int,
) -> Verdict:
    """Checks everything at `now` (unix seconds); never raises for bad evidence, the verdict fails.

    `evidence.report` is the 1184-byte report, `evidence.endorsements` the first none to three of
    endorsement key, intermediate and root (DER); the rest is taken from `collateral`.
    `report_data` is 64 bytes.
    """
    try:
        report = Report.parse(evidence.report)
        chain = load_chain(evidence.endorsements, collateral)
        tcbs = Tcbs.parse(report, chain.key.product)
    except FormatError as error:
        expected = error.expected or "well-formed evidence"
        return Verdict((Check("evidence", expected, str(error), False, _FORMAT),))
    log = f"{len(evidence.event_log)} bytes" if evidence.event_log else "none"
    return Verdict(
        (
            Check("evidence", "well-formed SEV-SNP evidence", "well-formed", True, _FORMAT),
            # No register holds a log's events, so nothing could tell whether it is true.
            Check("event log", "none", log, not evidence.event_log, _FORMAT),
            *check_chain(chain, now),
            *check_revocation(chain, collateral.crl, policy, now),
            *check_origin(report, chain.key, tcbs),
            check_equal("report data", report_data, report.report_data, "nonce and bound data"),
            *check_policy(report, chain.key, tcbs, references, policy),
        )
    )
