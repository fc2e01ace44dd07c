"""What Intel thinks of the platform's security versions: the TCB status of a quote.

Three things are appraised, each by the first (newest) level that it reaches: the platform, the TDX
module and the quoting enclave. The worst of the three counts. Anything that reaches no level at all
has no status.

Source: the steps 4.1.2.4.17 and 4.1.2.9 that Intel's Quote Verification Library is annotated with;
Intel's Provisioning Certification Service API, version 4, "Get TCB Info".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confide.vendors.intel.collateral import (
    SoftwareLevel,
    TcbInfo,
    TcbLevel,
    TcbStatus,
    TdxModule,
)
from confide.vendors.intel.pck import PckExtension
from confide.vendors.intel.quote import TdReport

_S = TcbStatus
# What becomes of a platform's status when the TDX module or the quoting enclave is out of date.
_WITH_OUT_OF_DATE = {
    _S.UP_TO_DATE: _S.OUT_OF_DATE,
    _S.SW_HARDENING_NEEDED: _S.OUT_OF_DATE,
    _S.CONFIGURATION_NEEDED: _S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    _S.CONFIGURATION_AND_SW_HARDENING_NEEDED: _S.OUT_OF_DATE_CONFIGURATION_NEEDED,
}
_CONFIGURATION_NEEDED = (
    _S.CONFIGURATION_NEEDED,
    _S.CONFIGURATION_AND_SW_HARDENING_NEEDED,
    _S.OUT_OF_DATE_CONFIGURATION_NEEDED,
)
_OUT_OF_DATE = (_S.OUT_OF_DATE, _S.OUT_OF_DATE_CONFIGURATION_NEEDED)


@dataclass(frozen=True)
class Appraisal:
    """The status of a quote and the advisories behind it; without a status, `reason` says why."""

    status: TcbStatus | None
    advisories: tuple[str, ...] = ()
    reason: str = ""


def appraise(
    report: TdReport, pck: PckExtension, info: TcbInfo, qe_level: SoftwareLevel | None
) -> Appraisal:
    """The TCB status of a TD on the platform that `pck` names; `qe_level` is its QE's level."""
    svn = report.tee_tcb_svn
    of_sgx = [level for level in info.levels if _reaches_sgx(pck, level)]
    of_tdx = [level for level in of_sgx if _reaches_tdx(svn, level)]
    if not of_tdx:
        part = "TDX" if of_sgx else "SGX"
        return Appraisal(None, reason=f"the platform's {part} versions are below every level")
    if qe_level is None:
        return Appraisal(None, reason="the quoting enclave is below every level")
    levels: list[TcbLevel | SoftwareLevel] = [of_tdx[0], qe_level]
    status, module_status = of_tdx[0].status, TcbStatus.UP_TO_DATE
    if svn[1]:
        module = module_identity(info, svn)
        module_level = first_level(module.levels, svn[0]) if module else None
        if module_level is None:
            return Appraisal(None, reason=f"TDX module {svn[1]}.{svn[0]} is below every level")
        module_status = module_level.status
        levels.append(module_level)
    status = _converge(status, module_status)
    if module_status is _S.OUT_OF_DATE and qe_level.status is _S.UP_TO_DATE:
        relaunched = _relaunch(report, info, of_sgx[0].status, status)
        if relaunched is None:
            return Appraisal(None, reason="the TDX module that runs now is not in TCB info")
        status = relaunched
    status = _converge(status, qe_level.status)
    advisories = dict.fromkeys(advisory for level in levels for advisory in level.advisories)
    return Appraisal(status, tuple(advisories))


def module_identity(info: TcbInfo, svn: bytes) -> TdxModule | None:
    """What TCB info says of a TDX module, by its 16 SVNs: byte 1 is the module's major version.

    Version 0 has one identity of its own; None if TCB info knows no module of that version.
    """
    if not svn[1]:
        return info.module
    name = f"TDX_{svn[1]:02X}"
    return next((module for module in info.module_identities if module.id == name), None)


def first_level(levels: Sequence[SoftwareLevel], isv_svn: int) -> SoftwareLevel | None:
    """The newest level that is not above `isv_svn`, None if all are."""
    return next((level for level in levels if isv_svn >= level.isv_svn), None)


def _reaches_sgx(pck: PckExtension, level: TcbLevel) -> bool:
    """Each of the 16 components on its own: one that is lower cannot be outweighed."""
    return pck.pce_svn >= level.pce_svn and _each_at_least(pck.sgx_svns, level.sgx_svns)


def _reaches_tdx(svn: bytes, level: TcbLevel) -> bool:
    """The first two are the TDX module's: from major version 1 on it is appraised on its own."""
    first = 2 if svn[1] else 0
    return _each_at_least(svn[first:], level.tdx_svns[first:])


def _each_at_least(seen: bytes, wanted: bytes) -> bool:
    return all(a >= b for a, b in zip(seen, wanted, strict=True))


def _converge(status: TcbStatus, other: TcbStatus) -> TcbStatus:
    if other is _S.REVOKED:
        return other
    return _WITH_OUT_OF_DATE.get(status, status) if other is _S.OUT_OF_DATE else status


def _relaunch(report: TdReport, info: TcbInfo, sgx: TcbStatus, tdx: TcbStatus) -> TcbStatus | None:
    """The status `tdx` of a TD that was started under an outdated TDX module, seen as of now.

    If the platform by now runs a current module, a new launch would do. Report 1.5 has the versions
    of that module (step 4.1.2.4.17.4.3); None if TCB info does not know it.
    """
    now = report.tee_tcb_svn2
    if now is None or sgx in (*_OUT_OF_DATE, _S.REVOKED) or tdx not in _OUT_OF_DATE:
        return tdx
    newest = info.levels[0].tdx_svns
    wanted = newest[0]
    if now[1]:
        module = module_identity(info, now)
        if module is None or not module.levels:
            return None
        wanted = module.levels[0].isv_svn
    if now[0] < wanted or now[2] < newest[2]:
        return tdx
    if sgx in _CONFIGURATION_NEEDED or tdx in _CONFIGURATION_NEEDED:
        return _S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
    return _S.TD_RELAUNCH_ADVISED
