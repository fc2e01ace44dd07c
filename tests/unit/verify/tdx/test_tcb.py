"""TCB status: which level counts, and what becomes of three statuses.

The tables are those of Intel's verification library (steps 4.1.2.4.17 and 4.1.2.9), written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from confide.vendors.intel.collateral import QeIdentity, TcbInfo, TcbStatus
from confide.vendors.intel.pck import PckExtension
from confide.vendors.intel.quote import TdReport
from confide.verify.tdx.tcb import Appraisal, appraise, first_level
from tests.support.intel_certificates import FMSPC, SVNS
from tests.support.simulated_intel import (
    PLATFORM_STATUSES,
    REPORT,
    REPORT_15,
    compact,
    level,
    module,
    qe_identity,
    software,
    tcb_info,
)

S = TcbStatus
PCK = PckExtension(FMSPC, bytes(2), bytes(SVNS), 13, None)
UP_TO_DATE = "UpToDate"
OUT_OF_DATE = "OutOfDate"
REVOKED = "Revoked"
# What each of PLATFORM_STATUSES becomes beside an outdated module or enclave.
WITH_OUT_OF_DATE = [
    "OutOfDate",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "OutOfDateConfigurationNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
]
CONVERGED = list(zip(PLATFORM_STATUSES, WITH_OUT_OF_DATE, strict=True))


def svns(*values: int) -> bytes:
    return bytes([*values, *[0] * (16 - len(values))])


def result(
    *levels: dict[str, Any],
    report: TdReport = REPORT,
    pck: PckExtension = PCK,
    modules: Sequence[dict[str, Any]] | None = None,
    qe: Sequence[dict[str, Any]] | None = None,
    qe_svn: int = 4,
) -> Appraisal:
    changes = {} if modules is None else {"tdxModuleIdentities": list(modules)}
    info = TcbInfo.parse(compact(tcb_info(*levels, **changes)))
    identity = QeIdentity.parse(compact(qe_identity(*(qe or []))))
    return appraise(report, pck, info, first_level(identity.levels, qe_svn))


def status(*levels: dict[str, Any], **arguments: Any) -> TcbStatus | None:
    return result(*levels, **arguments).status


def test_every_status_is_in_the_tables() -> None:
    computed = {S.TD_RELAUNCH_ADVISED, S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED}
    assert {S(name) for name in PLATFORM_STATUSES} == set(S) - computed


@pytest.mark.parametrize("name", PLATFORM_STATUSES)
def test_status_of_the_platform_alone(name: str) -> None:
    assert status(level(name)) == name


@pytest.mark.parametrize(("name", "expected"), CONVERGED)
def test_outdated_module(name: str, expected: str) -> None:
    modules = [module("TDX_01", software(6), software(5, OUT_OF_DATE))]
    assert status(level(name), modules=modules) == expected


@pytest.mark.parametrize(("name", "expected"), CONVERGED)
def test_outdated_enclave(name: str, expected: str) -> None:
    assert status(level(name), qe=[software(5), software(4, OUT_OF_DATE)]) == expected


@pytest.mark.parametrize("name", PLATFORM_STATUSES)
def test_revoked_module_or_enclave(name: str) -> None:
    assert status(level(name), modules=[module("TDX_01", software(5, REVOKED))]) == REVOKED
    assert status(level(name), qe=[software(4, REVOKED)]) == REVOKED


def test_enclave_below_every_level() -> None:
    assert result(level(), qe=[software(5)]) == Appraisal(
        None, reason="the quoting enclave is below every level"
    )


def test_module_below_every_level_or_unknown() -> None:
    assert result(level(), modules=[module("TDX_01", software(6))]).status is None
    assert result(level(), modules=[module("TDX_02", software(1))]).status is None
    assert result(level(), modules=[module("TDX_01")]).status is None
    assert result(level(), modules=[]).reason == "TDX module 1.5 is below every level"


def test_first_level_that_is_reached_counts() -> None:
    levels = [level(tdx=[5, 0, 4]), level(OUT_OF_DATE), level(REVOKED)]
    assert status(*levels) == OUT_OF_DATE
    assert status(*levels, report=replace(REPORT, tee_tcb_svn=svns(5, 1, 4))) == UP_TO_DATE


@pytest.mark.parametrize("component", range(16))
def test_each_sgx_component_counts(component: int) -> None:
    wanted = [svn + (number == component) for number, svn in enumerate(SVNS)]
    found = result(level(sgx=wanted))
    assert found == Appraisal(None, reason="the platform's SGX versions are below every level")


def test_pce_counts() -> None:
    assert status(level(pce=13)) == UP_TO_DATE
    assert status(level(pce=14)) is None


@pytest.mark.parametrize("component", range(16))
def test_tdx_components_from_the_third_on_count(component: int) -> None:
    """The module's own two are the module identity's to judge, unless its major version is 0."""
    wanted = [6, 1, 3] + [0] * 13
    wanted[component] = 200
    report = replace(REPORT, tee_tcb_svn=svns(5, 1, 3))
    found = result(level(tdx=wanted), report=report)
    assert found.status == (UP_TO_DATE if component < 2 else None)
    if component >= 2:
        assert found.reason == "the platform's TDX versions are below every level"


@pytest.mark.parametrize("component", range(16))
def test_all_tdx_components_count_for_a_module_of_version_0(component: int) -> None:
    wanted = [5, 0, 3] + [0] * 13
    report = replace(REPORT, tee_tcb_svn=svns(5, 0, 3))
    assert status(level(tdx=wanted), report=report, modules=[]) == UP_TO_DATE
    wanted[component] += 1
    assert status(level(tdx=wanted), report=report, modules=[]) is None


def test_no_levels_at_all() -> None:
    info = TcbInfo.parse(compact(tcb_info(tcbLevels=[])))
    identity = QeIdentity.parse(compact(qe_identity()))
    assert appraise(REPORT, PCK, info, identity.levels[0]).status is None


def test_advisories_of_all_three_each_once() -> None:
    found = result(
        level(OUT_OF_DATE, advisories=["INTEL-SA-00001", "INTEL-SA-00002"]),
        modules=[module("TDX_01", software(5, advisories=["INTEL-SA-00003"]))],
        qe=[software(4, advisories=["INTEL-SA-00002", "INTEL-SA-00004"])],
    )
    assert sorted(found.advisories) == [f"INTEL-SA-0000{n}" for n in (1, 2, 3, 4)]


# --- report 1.5: the platform's TDX module was updated since the TD was launched -----------------


def relaunch(
    now: bytes,
    *levels: dict[str, Any],
    launched: bytes = svns(5, 1, 3),
    qe: Sequence[dict[str, Any]] | None = None,
    modules: Sequence[dict[str, Any]] | None = None,
) -> TcbStatus | None:
    report = replace(REPORT_15, tee_tcb_svn=launched, tee_tcb_svn2=now)
    known = [module("TDX_01", software(7), software(6), software(5, OUT_OF_DATE))]
    return status(*levels, report=report, qe=qe, modules=known if modules is None else modules)


def test_relaunch_is_advised_when_a_current_module_runs() -> None:
    assert relaunch(svns(7, 1, 3), level()) == S.TD_RELAUNCH_ADVISED
    assert relaunch(svns(8, 1, 4), level()) == S.TD_RELAUNCH_ADVISED


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("UpToDate", "TDRelaunchAdvised"),
        ("SWHardeningNeeded", "TDRelaunchAdvised"),
        ("ConfigurationNeeded", "TDRelaunchAdvisedConfigurationNeeded"),
        ("ConfigurationAndSWHardeningNeeded", "TDRelaunchAdvisedConfigurationNeeded"),
        ("OutOfDate", "OutOfDate"),
        ("OutOfDateConfigurationNeeded", "OutOfDateConfigurationNeeded"),
        ("Revoked", "Revoked"),
    ],
)
def test_relaunch_does_not_heal_the_platform(name: str, expected: str) -> None:
    assert relaunch(svns(7, 1, 3), level(name)) == expected


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("UpToDate", "UpToDate", "TDRelaunchAdvised"),
        ("ConfigurationNeeded", "UpToDate", "TDRelaunchAdvisedConfigurationNeeded"),
        ("ConfigurationAndSWHardeningNeeded", "UpToDate", "TDRelaunchAdvisedConfigurationNeeded"),
        ("UpToDate", "ConfigurationNeeded", "TDRelaunchAdvisedConfigurationNeeded"),
        ("UpToDate", "OutOfDateConfigurationNeeded", "TDRelaunchAdvisedConfigurationNeeded"),
        ("OutOfDate", "UpToDate", "OutOfDate"),
        ("OutOfDateConfigurationNeeded", "UpToDate", "OutOfDate"),
        ("Revoked", "UpToDate", "OutOfDate"),
    ],
)
def test_relaunch_where_sgx_and_tdx_reach_different_levels(
    first: str, second: str, expected: str
) -> None:
    """SGX reaches the first level, the TD as it was launched only the second."""
    levels = [level(first, tdx=[5, 0, 4]), level(second)]
    assert relaunch(svns(7, 1, 4), *levels) == expected


def test_relaunch_is_not_advised_while_an_old_module_runs() -> None:
    assert relaunch(svns(6, 1, 3), level()) == OUT_OF_DATE
    newest = [level(tdx=[5, 0, 4]), level()]
    assert relaunch(svns(7, 1, 3), *newest) == OUT_OF_DATE
    assert relaunch(svns(7, 1, 4), *newest) == S.TD_RELAUNCH_ADVISED


def test_relaunch_is_not_advised_when_nothing_is_outdated() -> None:
    assert relaunch(svns(7, 1, 3), level(), launched=svns(6, 1, 3)) == UP_TO_DATE


def test_relaunch_is_not_advised_when_the_enclave_is_outdated() -> None:
    qe = [software(5), software(4, OUT_OF_DATE)]
    assert relaunch(svns(7, 1, 3), level(), qe=qe) == OUT_OF_DATE
    assert relaunch(svns(7, 1, 3), level(), qe=[software(4, REVOKED)]) == REVOKED


def test_relaunch_on_a_module_of_version_0() -> None:
    """Such a module is measured against the newest level itself."""
    assert relaunch(svns(5, 0, 3), level()) == S.TD_RELAUNCH_ADVISED
    assert relaunch(svns(4, 0, 3), level()) == OUT_OF_DATE
    assert relaunch(svns(5, 0, 2), level()) == OUT_OF_DATE


def test_relaunch_on_a_module_that_is_unknown() -> None:
    known = module("TDX_01", software(6), software(5, OUT_OF_DATE))
    report = replace(REPORT_15, tee_tcb_svn2=svns(9, 9, 9))
    unknown = Appraisal(None, reason="the TDX module that runs now is not in TCB info")
    assert result(level(), report=report, modules=[known]) == unknown
    assert result(level(), report=report, modules=[known, module("TDX_09")]) == unknown


def test_report_1_0_knows_no_relaunch() -> None:
    modules = [module("TDX_01", software(7), software(5, OUT_OF_DATE))]
    assert status(level(), modules=modules) == OUT_OF_DATE
