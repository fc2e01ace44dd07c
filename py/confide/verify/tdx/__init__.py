"""Verifies TDX evidence: what the TDX module signed, on whose platform, and what was booted.

Nothing in a quote, in collateral or in an event log is believed until a check says so, and all
checks are made at the time which the caller gives. See `chain`, `signatures`, `tcb` and `policy`
for the rules; each is one step of Intel's, in the order of trust.
"""

from __future__ import annotations

from collections.abc import Sequence

from confide.errors import FormatError
from confide.protocol.evidence import Evidence
from confide.protocol.policy.tdx import TdxPolicy, TdxReference
from confide.vendors.intel.collateral import QeIdentity, TcbInfo, TdxCollateral
from confide.vendors.intel.pck import PckExtension
from confide.vendors.intel.quote import Quote, TdReport
from confide.verify.tdx.chain import Certificates
from confide.verify.tdx.policy import check_platform, check_report, check_tcb
from confide.verify.tdx.signatures import check_documents, check_qe, check_quote, check_tcb_info
from confide.verify.tdx.tcb import appraise, first_level
from confide.verify.verdict import Check, Verdict
from measure import eventlog
from measure.errors import MeasureError

_FORMAT = "evidence format"


def verify_tdx(
    evidence: Evidence,
    *,
    report_data: bytes,
    references: Sequence[TdxReference],
    policy: TdxPolicy,
    collateral: TdxCollateral,
    now: int,
) -> Verdict:
    """Checks everything at `now` (unix seconds); never raises for bad evidence, the verdict fails.

    The evidence's report is a quote that carries its PCK chain, so there are no endorsements; its
    event log is the CCEL. `report_data` (64 bytes) is what the quote must bind.
    """
    try:
        quote = Quote.parse(evidence.report)
    except FormatError as error:
        return _unreadable("evidence", error)
    count = len(evidence.endorsements)
    seen = f"{count} certificates"
    verdict = verify_quote(
        quote,
        report_data=report_data,
        references=references,
        policy=policy,
        collateral=collateral,
        now=now,
    )
    return Verdict(
        (
            _well_formed(quote),
            Check("endorsements", "0 certificates: the quote has them", seen, not count, _FORMAT),
            *verdict.checks,
            _check_event_log(quote.report, evidence.event_log),
        )
    )


def verify_quote(
    quote: Quote,
    *,
    report_data: bytes,
    references: Sequence[TdxReference],
    policy: TdxPolicy,
    collateral: TdxCollateral,
    now: int,
) -> Verdict:
    """The checks of `verify_tdx` on which trust rests: all but form and event log."""
    try:
        info = TcbInfo.parse(collateral.tcb_info)
        identity = QeIdentity.parse(collateral.qe_identity)
        certificates = Certificates(quote, collateral)
        pck = PckExtension.read(certificates.pck)
    except FormatError as error:
        return _unreadable("certificates and collateral", error)
    qe = quote.qe_report
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
                quote.report, report_data=report_data, references=references, policy=policy
            ),
        )
    )


def _well_formed(quote: Quote) -> Check:
    report = "1.0" if quote.report.mrservicetd is None else "1.5"
    seen = f"version {quote.version}, TD report {report}, {quote.trailing} bytes after its end"
    return Check("evidence", "a TDX quote", seen, True, _FORMAT)


def _check_event_log(report: TdReport, log: bytes) -> Check:
    """It decides nothing, it is there to explain: so it must be the log of these very registers."""
    expected = "replays to the quoted RTMRs"
    try:
        replayed = eventlog.parse(log).rtmrs()
    except MeasureError as error:
        return Check("event log", expected, str(error), False, "quote")
    wrong = [f"RTMR{n}" for n, value in enumerate(report.rtmrs) if replayed[n] != value]
    seen = f"other values for {' '.join(wrong)}" if wrong else expected
    return Check("event log", expected, seen, not wrong, "quote")


def _unreadable(name: str, error: FormatError) -> Verdict:
    expected = error.expected or "well-formed bytes"
    return Verdict((Check(name, expected, str(error), False, _FORMAT),))
