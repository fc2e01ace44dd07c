"""Verifies TDX evidence: what the TDX module signed, on whose platform, and what was booted.

Nothing in a quote, in collateral or in an event log is believed until a check says so, and all
checks are made at the time which the caller gives. See `chain`, `signatures`, `tcb` and `policy`
for the rules; each is one step of Intel's, in the order of trust.
"""

from __future__ import annotations

from collections.abc import Sequence

from confide.errors import FormatError
from confide.protocol.policy.tdx import TdxPolicy, TdxReference
from confide.vendors.intel.collateral import QeIdentity, TcbInfo, TdxCollateral
from confide.vendors.intel.quote import TdReport
from confide.verify.machine import TdxEvidence
from confide.verify.tdx.chain import Certificates
from confide.verify.tdx.policy import check_platform, check_report, check_tcb
from confide.verify.tdx.signatures import check_documents, check_qe, check_quote, check_tcb_info
from confide.verify.tdx.tcb import appraise, first_level
from confide.verify.verdict import COLLATERAL, FORMAT, Check, Verdict, unreadable
from measure.errors import MeasureError
from measure.eventlog import EventLog


def verify_tdx(
    evidence: TdxEvidence,
    *,
    report_data: bytes,
    references: Sequence[TdxReference],
    policy: TdxPolicy,
    binding: bytes,
    collateral: TdxCollateral | FormatError,
    now: int,
) -> Verdict:
    """Checks everything; bad evidence makes a verdict that has not passed, never an exception.

    Args:
        evidence: the quote, which carries its certificates, and the event log (CCEL).
        report_data: the 64 bytes that the quote must bind.
        references: the registers that the manifest accepts.
        policy: what else the manifest demands.
        binding: what the machine must have been launched for, 32 bytes (`protocol.launch`).
        collateral: Intel's statements on this kind of platform, or why there are none.
        now: unix seconds.
    """
    quote, count = evidence.quote, evidence.certificate_count
    report = "1.0" if quote.report.mrservicetd is None else "1.5"
    form = f"version {quote.version}, TD report {report}, {quote.trailing} bytes after its end"
    verdict = verify_quote(
        evidence,
        report_data=report_data,
        references=references,
        policy=policy,
        binding=binding,
        collateral=collateral,
        now=now,
    )
    return Verdict(
        (
            Check("evidence", "a TDX quote", form, True, FORMAT),
            Check("endorsements", "none: the quote has them", f"{count}", not count, FORMAT),
            *verdict.checks,
            _check_event_log(quote.report, evidence.event_log),
        )
    )


def verify_quote(
    evidence: TdxEvidence,
    *,
    report_data: bytes,
    references: Sequence[TdxReference],
    policy: TdxPolicy,
    binding: bytes,
    collateral: TdxCollateral | FormatError,
    now: int,
) -> Verdict:
    """The checks of `verify_tdx` on which trust rests: all but form and event log."""
    quote, chain = evidence.quote, evidence.pck_chain
    name = "certificates and collateral"
    if isinstance(chain, FormatError):
        return unreadable(name, chain)
    if isinstance(collateral, FormatError):
        return unreadable(name, collateral, COLLATERAL)
    try:
        info = TcbInfo.parse(collateral.tcb_info)
        identity = QeIdentity.parse(collateral.qe_identity)
        certificates = Certificates(chain, collateral)
    except FormatError as error:
        return unreadable(name, error, COLLATERAL)
    qe, pck = quote.qe_report, chain.pck
    appraisal = appraise(quote.report, pck, info, first_level(identity.levels, qe.isv_svn))
    return Verdict(
        (
            *certificates.check(now),
            *check_quote(quote, certificates),
            *check_documents(collateral, certificates, info, identity, now),
            *check_qe(qe, identity),
            *check_tcb_info(quote, pck, info),
            *check_platform(pck, policy),
            *check_tcb(appraisal, info, identity, policy),
            *check_report(
                quote.report,
                report_data=report_data,
                references=references,
                policy=policy,
                binding=binding,
            ),
        )
    )


def _check_event_log(report: TdReport, log: EventLog | MeasureError) -> Check:
    """The log decides nothing, it explains: so it must be the log of these very registers."""
    expected = "replays to the quoted RTMRs"
    try:
        if isinstance(log, MeasureError):
            raise log
        replayed = log.rtmrs()
    except MeasureError as error:
        return Check("event log", expected, str(error), False, "quote")
    wrong = [f"RTMR{n}" for n, value in enumerate(report.rtmrs) if replayed[n] != value]
    seen = f"other values for {' '.join(wrong)}" if wrong else expected
    return Check("event log", expected, seen, not wrong, "quote")
