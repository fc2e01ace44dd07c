"""Attacks and oddities that verifiers of TDX have fallen for, one named test each.

All platforms here are SIMULATED; the same on real quotes: tests/vectors/test_tdx_vectors.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from confide.encoding.messages import from_map, to_map
from confide.errors import FormatError
from confide.protocol.evidence import Evidence
from confide.protocol.policy.tdx import Masked, OptOut, TdxPolicy, TdxReference
from confide.vendors.intel.collateral import TcbInfo, TcbStatus
from confide.vendors.intel.quote import TdReport
from tests.support.intel_certificates import NOW, SVNS, pck_extension
from tests.support.mutations import with_field
from tests.support.simulated_intel import (
    EVENT_LOG,
    POLICY,
    REFERENCE,
    REPORT,
    REPORT_15,
    SEPT_VE_DISABLE,
    SimulatedIntel,
    compact,
    level,
    module,
    software,
    tcb_info,
)
from tests.support.verdicts import Verify, failed

DEBUG_REPORT = replace(REPORT, attributes=SEPT_VE_DISABLE | 1)


@pytest.mark.parametrize("report", [REPORT, REPORT_15], ids=["1.0", "1.5"])
def test_good_evidence(intel: SimulatedIntel, verify: Verify, report: TdReport) -> None:
    verdict = verify(intel.quote(report))
    verdict.require()
    version = "4, TD report 1.0" if report is REPORT else "5, TD report 1.5"
    assert verdict.checks[0].seen == f"version {version}, 0 bytes after its end"
    names = [check.name for check in verdict.checks]
    assert len(set(names)) == len(names)
    assert all(check.expected and check.seen and check.source for check in verdict.checks)


def test_bytes_after_the_end_are_legal_and_counted(intel: SimulatedIntel, verify: Verify) -> None:
    verdict = verify(intel.quote(trailing=b"whatever" * 10))
    verdict.require()
    assert "80 bytes after its end" in verdict.checks[0].seen


def test_debug_td_is_refused_although_its_quote_is_signed(
    intel: SimulatedIntel, verify: Verify
) -> None:
    quote = intel.quote(DEBUG_REPORT)
    assert failed(verify(quote)) == ["TD attributes: DEBUG", "TD attributes"]
    accepting = replace(POLICY, attributes=Masked(2**64 - 2, SEPT_VE_DISABLE))
    assert failed(verify(quote, policy=accepting)) == ["TD attributes: DEBUG"]


def test_debug_td_passes_only_by_the_option_whose_name_says_so(
    intel: SimulatedIntel, verify: Verify
) -> None:
    insecure = replace(
        POLICY,
        attributes=Masked(2**64 - 2, SEPT_VE_DISABLE),
        opt_outs=frozenset({OptOut.ALLOW_DEBUG}),
    )
    verdict = verify(intel.quote(DEBUG_REPORT), policy=insecure)
    verdict.require()
    (check,) = (c for c in verdict.checks if c.name == "TD attributes: DEBUG")
    assert check.expected == "anything, because of insecure_allow_debug"


def test_sept_ve_disable_is_demanded(intel: SimulatedIntel, verify: Verify) -> None:
    quote = intel.quote(replace(REPORT, attributes=0))
    lenient = replace(POLICY, attributes=Masked(SEPT_VE_DISABLE << 1, 0))
    assert failed(verify(quote, policy=lenient)) == ["TD attributes: SEPT_VE_DISABLE"]
    verify(quote, policy=replace(lenient, opt_outs=frozenset({OptOut.ALLOW_SEPT_VE}))).require()


@pytest.mark.parametrize("bit", [1, 4, 7, 8, 16, 27, 29, 32, 62])
def test_migratable_and_unknown_attributes_are_refused_under_any_mask(
    intel: SimulatedIntel, verify: Verify, bit: int
) -> None:
    quote = intel.quote(replace(REPORT, attributes=SEPT_VE_DISABLE | 1 << bit))
    lenient = replace(POLICY, attributes=Masked(SEPT_VE_DISABLE, SEPT_VE_DISABLE))
    assert failed(verify(quote, policy=lenient)) == ["TD attributes: no others"]


@pytest.mark.parametrize("bit", [30, 31, 63], ids=["PKS", "KL", "PERFMON"])
def test_harmless_attributes_are_the_manifests_to_decide(
    intel: SimulatedIntel, verify: Verify, bit: int
) -> None:
    quote = intel.quote(replace(REPORT, attributes=SEPT_VE_DISABLE | 1 << bit))
    assert failed(verify(quote)) == ["TD attributes"]
    lenient = replace(POLICY, attributes=Masked(SEPT_VE_DISABLE, SEPT_VE_DISABLE))
    verify(quote, policy=lenient).require()


@pytest.mark.parametrize("name", sorted(to_map(POLICY)))
def test_unset_policy_is_an_error(name: str) -> None:
    value = to_map(POLICY)
    del value[name]
    with pytest.raises(FormatError, match=f"no field '{name}'"):
        from_map(TdxPolicy, value, "policy")


def test_empty_lists_accept_nothing(intel: SimulatedIntel, verify: Verify) -> None:
    assert failed(verify(policy=replace(POLICY, tcb_statuses=()))) == ["TCB status"]
    assert failed(verify(policy=replace(POLICY, mrseam=()))) == ["MRSEAM"]
    assert failed(verify(policy=replace(POLICY, fmspcs=()))) == ["platform FMSPC"]
    assert failed(verify(references=[])) == ["measurements"]
    advised = intel.collateral(tcb_info(level(advisories=["INTEL-SA-00001"])))
    assert failed(verify(collateral=advised)) == ["TCB advisories"]
    accepting = replace(POLICY, advisories=("INTEL-SA-00001",))
    verify(collateral=advised, policy=accepting).require()


@pytest.mark.parametrize("svn", [256, 65473, -1, 1.0, True, "5", None])
def test_security_version_that_is_no_byte_is_refused(
    intel: SimulatedIntel, verify: Verify, svn: object
) -> None:
    """Intel's own sample has 65473, which becomes 193 where it is cut to a byte."""
    info = tcb_info(level(sgx=[svn, *SVNS[1:]]))  # type: ignore[list-item]
    with pytest.raises(FormatError):
        TcbInfo.parse(compact(info))
    assert failed(verify(collateral=intel.collateral(info))) == ["certificates and collateral"]


def test_revoked_cannot_be_accepted() -> None:
    value = to_map(POLICY) | {"tcb_statuses": ["UpToDate", "Revoked"]}
    with pytest.raises(FormatError, match="tcb_statuses"):
        from_map(TdxPolicy, value, "policy")


def test_quote_of_another_nonce(intel: SimulatedIntel, verify: Verify) -> None:
    assert failed(verify(report_data=b"\x45" * 64)) == ["report data"]


def test_report_data_is_compared_whole(intel: SimulatedIntel, verify: Verify) -> None:
    assert failed(verify(report_data=REPORT.report_data[:32])) == ["report data"]
    assert failed(verify(report_data=b"")) == ["report data"]


def test_lower_component_is_not_outweighed_by_a_higher_one(
    intel: SimulatedIntel, verify: Verify
) -> None:
    """(4, 2, ...) is larger than (3, 3, ...) only to who compares them as one number."""
    intel.pck = intel.issue_pck(svns=[4, 2, *SVNS[2:]])
    assert failed(verify(intel.quote())) == ["TCB status"]
    intel.pck = intel.issue_pck()
    report = replace(REPORT, tee_tcb_svn=bytes([5, 1, 4, 0] + [0] * 12))
    needs_both = intel.collateral(tcb_info(level(tdx=[5, 0, 3, 1])))
    assert failed(verify(intel.quote(report), collateral=needs_both)) == ["TCB status"]


def test_event_log_must_replay(intel: SimulatedIntel, verify: Verify) -> None:
    def of(log: bytes, endorsements: tuple[bytes, ...] = ()) -> list[str]:
        evidence = Evidence("tdx", intel.quote(), endorsements, log)
        return failed(verify(evidence=evidence))

    assert of(EVENT_LOG) == []
    assert of(EVENT_LOG[:-70]) == ["event log"]
    assert of(EVENT_LOG.replace(b"\x31" * 48, b"\x33" * 48)) == ["event log"]
    assert of(b"") == ["event log"]
    assert of(EVENT_LOG, (b"certificate",)) == ["endorsements"]


def test_sgx_enclaves_quote_is_refused_clearly(intel: SimulatedIntel, verify: Verify) -> None:
    quote = bytearray(intel.quote())
    quote[4:8] = bytes(4)
    verdict = verify(bytes(quote))
    assert failed(verdict) == ["evidence"]
    seen = verdict.checks[0].seen
    assert seen.startswith("this is the quote of an SGX enclave, not of a TDX machine;")


def test_tcb_info_for_another_platform(intel: SimulatedIntel, verify: Verify) -> None:
    other = tcb_info(fmspc="b0c06f000000")
    assert failed(verify(collateral=intel.collateral(other))) == ["TCB info: FMSPC"]
    other = tcb_info(pceId="0001")
    assert failed(verify(collateral=intel.collateral(other))) == ["TCB info: PCE-ID"]


def test_module_signed_by_another(intel: SimulatedIntel, verify: Verify) -> None:
    quote = intel.quote(replace(REPORT, mrsignerseam=b"\1" * 48))
    assert failed(verify(quote)) == ["TDX module: MRSIGNERSEAM"]
    known = module("TDX_01", software(5), mrsigner=b"\1" * 48)
    info = tcb_info(tdxModuleIdentities=[known])
    verify(quote, collateral=intel.collateral(info)).require()


def test_module_of_version_0_has_an_identity_of_its_own(
    intel: SimulatedIntel, verify: Verify
) -> None:
    quote = intel.quote(replace(REPORT, tee_tcb_svn=bytes([5, 0, 3] + [0] * 13)))
    verify(quote).require()
    other = tcb_info(tdxModule=module("", mrsigner=b"\1" * 48))
    names = failed(verify(quote, collateral=intel.collateral(other)))
    assert names == ["TDX module: MRSIGNERSEAM"]


def test_debug_module_is_refused_whatever_tcb_info_says(
    intel: SimulatedIntel, verify: Verify
) -> None:
    quote = intel.quote(replace(REPORT, seam_attributes=b"\1" + bytes(7)))
    names = ["TDX module: SEAMATTRIBUTES", "TDX module: SEAMATTRIBUTES are zero"]
    assert failed(verify(quote)) == names
    blind = module("TDX_01", software(5)) | {"attributesMask": "0" * 16}
    info = tcb_info(tdxModuleIdentities=[blind])
    assert failed(verify(quote, collateral=intel.collateral(info))) == names[1:]


def test_module_of_a_version_that_tcb_info_does_not_know(
    intel: SimulatedIntel, verify: Verify
) -> None:
    quote = intel.quote(replace(REPORT, tee_tcb_svn=bytes([9, 7, 9] + [0] * 13)))
    assert failed(verify(quote)) == ["TDX module", "TCB status"]


def test_service_td_is_refused(intel: SimulatedIntel, verify: Verify) -> None:
    quote = intel.quote(replace(REPORT_15, mrservicetd=b"\1" * 48))
    assert failed(verify(quote)) == ["MRSERVICETD"]


def test_references_are_never_mixed(intel: SimulatedIntel, verify: Verify) -> None:
    other = b"\x77" * 48
    wrong_rtmrs = TdxReference("one", REFERENCE.mrtd, other, other, other, other)
    wrong_mrtd = replace(REFERENCE, shape="two", mrtd=other)
    verdict = verify(references=[wrong_rtmrs, wrong_mrtd])
    assert failed(verdict) == ["MRTD (firmware)"]
    verify(references=[wrong_rtmrs, wrong_mrtd, REFERENCE]).require()


@pytest.mark.parametrize("name", ["mrowner", "mrownerconfig"])
def test_what_the_host_binds_must_be_listed(
    intel: SimulatedIntel, verify: Verify, name: str
) -> None:
    quote = intel.quote(with_field(REPORT, name, b"\1" * 48))
    assert failed(verify(quote)) == [name.upper()]
    verify(quote, policy=with_field(POLICY, name + "s", (b"\1" * 48,))).require()
    assert failed(verify(policy=with_field(POLICY, name + "s", ()))) == [name.upper()]


def test_machine_that_the_manifest_does_not_list(intel: SimulatedIntel, verify: Verify) -> None:
    for listed in ((), (bytes(16),)):
        policy = replace(POLICY, platform_instances=listed)
        assert failed(verify(policy=policy)) == ["platform instance"]
    insecure = replace(POLICY, platform_instances=(), opt_outs=frozenset({OptOut.ANY_PLATFORM}))
    verdict = verify(policy=insecure)
    verdict.require()
    (check,) = (c for c in verdict.checks if c.name == "platform instance")
    assert check.expected == "anything, because of insecure_any_platform"


def test_machine_that_states_no_instance(intel: SimulatedIntel, verify: Verify) -> None:
    intel.pck = intel.issue_pck(extension=pck_extension(instance=b""))
    assert failed(verify(intel.quote())) == ["platform instance"]


def test_evaluation_data_number_below_the_minimum(intel: SimulatedIntel, verify: Verify) -> None:
    demanding = replace(POLICY, minimum_tcb_evaluation_data_number=19)
    assert failed(verify(policy=demanding)) == [
        "TCB info: evaluation data number",
        "QE identity: evaluation data number",
    ]


def test_xfam_mrseam_and_fmspc_are_the_manifests(intel: SimulatedIntel, verify: Verify) -> None:
    assert failed(verify(policy=replace(POLICY, xfam=Masked(2**64 - 1, 3)))) == ["XFAM"]
    assert failed(verify(policy=replace(POLICY, mrseam=(b"\x12" * 48,)))) == ["MRSEAM"]
    verify(policy=replace(POLICY, mrseam=(b"\x12" * 48, REPORT.mrseam))).require()
    assert failed(verify(policy=replace(POLICY, fmspcs=(bytes(6),)))) == ["platform FMSPC"]


def test_status_that_the_manifest_does_not_accept(intel: SimulatedIntel, verify: Verify) -> None:
    outdated = intel.collateral(tcb_info(level("OutOfDate")))
    assert failed(verify(collateral=outdated)) == ["TCB status"]
    accepting = replace(POLICY, tcb_statuses=(TcbStatus.OUT_OF_DATE,))
    verify(collateral=outdated, policy=accepting).require()
    assert failed(verify(policy=accepting)) == ["TCB status"]


def test_everything_is_of_its_time(intel: SimulatedIntel, verify: Verify) -> None:
    late, early = verify(now=NOW + 400 * 86400), verify(now=NOW - 400 * 86400)
    times = [
        "validity of Intel SGX PCK Certificate",
        "validity of Intel SGX PCK Platform CA",
        "validity of Intel SGX Root CA",
        "validity of Intel SGX TCB Signing",
        "root CA's revocation list",
        "PCK CA's revocation list",
        "TCB info: time",
        "QE identity: time",
    ]
    assert failed(late) == failed(early) == times
