"""Real TDX quotes and Intel's collateral, as recorded by others, and policies that fit them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from confide.encoding.pem import read_chain, write_chain
from confide.protocol.evidence import Evidence
from confide.protocol.policy.tdx import Masked, OptOut, TdxPolicy, TdxReference
from confide.vendors.intel.collateral import TcbStatus, TdxCollateral
from confide.vendors.intel.quote import TdReport
from confide.verify.machine import TdxEvidence
from confide.verify.tdx import verify_quote
from confide.verify.verdict import Verdict

# Each real quote that is stored; Intel's sample is not among them, it is under a test root.
QUOTES = (
    "dcap-qvl/tdx_quote",
    "dcap-qvl/tdx_quote_outdated",
    "dcap-qvl/tdx-quote.hex",
    "dstack/quote-report.json",
    "dstack/tdx_quote",
    "go-tdx-guest/cos-113-tdx-quote.dat",
    "go-tdx-guest/quote_v5_sample.dat",
    "go-tdx-guest/tdx_prod_quote_SPR_E4.dat",
    "trustee/az-tdx-vtpm/td-quote.bin",
    "trustee/tdx_quote_4.dat",
    "trustee/tdx_quote_5.dat",
)
COLLATERAL = (
    "dcap-qvl/tdx_quote_collateral.json",
    "dcap-qvl/tdx_quote_outdated_collateral.json",
    "go-tdx-guest/collateral_50806f000000.json",
    "go-tdx-guest/collateral_90c06f000000.json",
)
STATUS = "TCB status"


def at(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())


@dataclass(frozen=True)
class Pair:
    """A quote with collateral that knows its platform, at a time when both are valid."""

    quote: str
    collateral: str
    now: int


ACCEPTED = (
    Pair("dcap-qvl/tdx_quote", COLLATERAL[0], 1752919234),
    Pair("dstack/quote-report.json", COLLATERAL[1], at(2026, 3, 1)),
    Pair("go-tdx-guest/quote_v5_sample.dat", COLLATERAL[1], at(2026, 3, 1)),
)


def read_quote(vectors: Path, name: str) -> bytes:
    data = (vectors / name).read_bytes()
    if name.endswith(".hex"):
        return bytes.fromhex(data.decode().strip().removeprefix("0x"))
    if name.endswith(".json"):
        return bytes.fromhex(json.loads(data)["quote"])
    return data


def read_collateral(vectors: Path, name: str) -> TdxCollateral:
    value = json.loads((vectors / name).read_text())

    def chain(field: str) -> tuple[bytes, ...]:
        return read_chain(value[field].encode(), field, max_certificates=2)

    return TdxCollateral(
        tcb_info=value["tcb_info"].encode(),
        tcb_info_signature=bytes.fromhex(value["tcb_info_signature"]),
        tcb_info_chain=chain("tcb_info_issuer_chain"),
        qe_identity=value["qe_identity"].encode(),
        qe_identity_signature=bytes.fromhex(value["qe_identity_signature"]),
        qe_identity_chain=chain("qe_identity_issuer_chain"),
        root_ca_crl=bytes.fromhex(value["root_ca_crl"]),
        pck_crl=bytes.fromhex(value["pck_crl"]),
    )


def peer_collateral(collateral: TdxCollateral, pck_ca_chain: tuple[bytes, ...]) -> str:
    """The same collateral in dcap-qvl's JSON; the chain is the PCK CA's, which it wants besides."""
    return json.dumps(
        {
            "pck_crl_issuer_chain": write_chain(pck_ca_chain).decode(),
            "root_ca_crl": collateral.root_ca_crl.hex(),
            "pck_crl": collateral.pck_crl.hex(),
            "tcb_info_issuer_chain": write_chain(collateral.tcb_info_chain).decode(),
            "tcb_info": collateral.tcb_info.decode("latin-1"),
            "tcb_info_signature": collateral.tcb_info_signature.hex(),
            "qe_identity_issuer_chain": write_chain(collateral.qe_identity_chain).decode(),
            "qe_identity": collateral.qe_identity.decode("latin-1"),
            "qe_identity_signature": collateral.qe_identity_signature.hex(),
        }
    )


def reference_of(report: TdReport) -> TdxReference:
    return TdxReference("recorded", report.mrtd, *report.rtmrs)


def binding_of(report: TdReport) -> bytes:
    """What the TD was launched for, if the last 16 bytes of MRCONFIGID are zeros; else no binding
    fits it.
    """
    return report.mrconfigid[:32]


def policy_of(report: TdReport, advisories: tuple[str, ...] = ()) -> TdxPolicy:
    """Wants what `report` says, and accepts any status but Revoked: only Intel's word counts."""
    return TdxPolicy(
        attributes=Masked(2**64 - 1, report.attributes),
        xfam=Masked(2**64 - 1, report.xfam),
        mrseam=None,
        mrowners=(report.mrowner,),
        mrownerconfigs=(report.mrownerconfig,),
        fmspcs=None,
        platform_instances=(),
        tcb_statuses=tuple(status for status in TcbStatus if status is not TcbStatus.REVOKED),
        advisories=advisories,
        minimum_tcb_evaluation_data_number=0,
        opt_outs=frozenset({OptOut.ANY_PLATFORM}),
    )


def verify_recorded(
    data: bytes,
    collateral: TdxCollateral,
    now: int,
    *,
    genuine: TdReport | None = None,
    advisories: tuple[str, ...] = (),
    binding: bytes | None = None,
) -> Verdict:
    """Verifies a quote; what it should say is what `genuine` says, or else what it does say. It
    must have been launched for `binding` or, without one, for what the same report says.
    """
    evidence = TdxEvidence.parse(Evidence("tdx", data, (), b""))
    report = genuine or evidence.quote.report
    return verify_quote(
        evidence,
        report_data=report.report_data,
        references=[reference_of(report)],
        policy=policy_of(report, advisories),
        binding=binding_of(report) if binding is None else binding,
        collateral=collateral,
        now=now,
    )


def seen(verdict: Verdict, name: str) -> str:
    """What was seen at the check `name`, "" if it was not made."""
    return next((check.seen for check in verdict.checks if check.name == name), "")
