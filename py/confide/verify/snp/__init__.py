"""Verifies SEV-SNP evidence: which chip signed it, what that chip started, and in which state.

Rules that hold for every verdict which passes:
- The report is signed by the key of one chip (VCEK) or one cloud (VLEK) whose certificate chains
  to a root of AMD's that is known by its key; all are valid now, and none is revoked according to
  a list that the root signed and that has not expired.
- That certificate is for the processor, and for the TCB version, that the report states.
- The report binds the caller's data, and its launch digest is one of the manifest's.
- The machine was launched for this manifest: HOST_DATA is what follows from its bytes.
- Everything else that the report states has a reference value in the manifest's policy and agrees
  with it; what the policy leaves open is in the verdict, by the name of the opt-out.

Source: AMD 56860 "SEV Secure Nested Paging Firmware ABI", rev. 1.58, 7.3 and chapter 10; AMD 57230
"VCEK Certificate and KDS Interface Specification".
"""

from __future__ import annotations

from collections.abc import Sequence

from confide.errors import FormatError
from confide.protocol.policy.snp import SnpPolicy, SnpReference
from confide.verify.machine import SnpEvidence
from confide.verify.snp.chain import check_chain, check_revoked, load_chain
from confide.verify.snp.collateral import SnpCollateral
from confide.verify.snp.origin import Tcbs, check_origin
from confide.verify.snp.policy import check_policy
from confide.verify.verdict import COLLATERAL, FORMAT, Check, Verdict, check_equal, unreadable


def verify_snp(
    evidence: SnpEvidence,
    *,
    report_data: bytes,
    references: Sequence[SnpReference],
    policy: SnpPolicy,
    binding: bytes,
    collateral: SnpCollateral,
    now: int,
) -> Verdict:
    """Checks everything; bad evidence makes a verdict that has not passed, never an exception.

    Args:
        evidence: the report, and the certificates that came with it.
        report_data: the 64 bytes that the report must bind.
        references: the launch digests that the manifest accepts.
        policy: what else the manifest demands.
        binding: what the machine must have been launched for, 32 bytes (`protocol.launch`).
        collateral: the certificates that did not come with the evidence, and the revocation list.
        now: unix seconds.
    """
    report = evidence.report
    try:
        chain = load_chain(evidence.endorsement_key, evidence.issuers, collateral)
    except FormatError as error:
        return unreadable("evidence", error, COLLATERAL)
    try:
        tcbs = Tcbs.parse(report, chain.key.product)
    except FormatError as error:
        return unreadable("evidence", error)
    log = f"{evidence.event_log_size} bytes" if evidence.event_log_size else "none"
    return Verdict(
        (
            Check("evidence", "well-formed SEV-SNP evidence", "well-formed", True, FORMAT),
            # No register holds a log's events, so nothing could tell whether it is true.
            Check("event log", "none", log, not evidence.event_log_size, FORMAT),
            *check_chain(chain, now),
            *check_revoked(chain, collateral.crl, policy, now),
            *check_origin(report, chain.key, tcbs),
            check_equal("report data", report_data, report.report_data, "nonce and bound data"),
            *check_policy(report, chain.key, tcbs, references, policy, binding),
        )
    )
