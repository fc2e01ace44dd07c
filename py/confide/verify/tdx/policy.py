"""What the manifest demands of a TD, once it is known that the TDX module really said it.

Rules that hold when every check passes:
- The report binds the caller's data.
- The TD is not a debug one, cannot be moved to another host, and has no attribute that is unknown.
- One reference of the manifest matches in MRTD and all four RTMRs; references are never mixed.
- The TD was launched for this manifest: MRCONFIGID is what follows from its bytes.
- What else the host could have bound to the TD is as the manifest says.
- The machine, and what Intel thinks of it, are among what the manifest accepts.

Source: Intel TDX Module Base Architecture Specification, "TD ATTRIBUTES" and "Measurement".
"""

from __future__ import annotations

from collections.abc import Sequence

from confide.protocol.launch import mrconfigid
from confide.protocol.policy.tdx import (
    ATTRIBUTE_DEBUG,
    ATTRIBUTE_SEPT_VE_DISABLE,
    KNOWN_ATTRIBUTES,
    OptOut,
    TdxPolicy,
    TdxReference,
)
from confide.vendors.intel.collateral import QeIdentity, TcbInfo
from confide.vendors.intel.pck import PckExtension
from confide.vendors.intel.quote import MEASUREMENT_SIZE, TdReport
from confide.verify.claims import AtLeast, Bits, Claim, Equals, InsecureAny, OneOf
from confide.verify.launch import check_launch
from confide.verify.tdx.tcb import Appraisal
from confide.verify.verdict import Check, check_equal

REGISTER_COVERS = {
    "MRTD": "firmware",
    "RTMR0": "firmware configuration: memory, devices, ACPI tables, boot variables",
    "RTMR1": "boot programs and partition table",
    "RTMR2": "kernel, initrd and command line",
    "RTMR3": "not used",
}
_MANIFEST = "manifest"
_VERIFIER = "this verifier"
_ALL_BITS = 2**64 - 1


def check_report(
    report: TdReport,
    *,
    report_data: bytes,
    references: Sequence[TdxReference],
    policy: TdxPolicy,
    binding: bytes,
) -> list[Check]:
    """The checks of the TD report itself."""
    checks = [check_equal("report data", report_data, report.report_data, "nonce and bound data")]
    checks += _check_attributes(report.attributes, policy)
    checks.append(Bits("XFAM", policy.xfam.mask, policy.xfam.value, _MANIFEST).check(report.xfam))
    checks += [
        _one_of_or_signed("MRSEAM", policy.mrseam, report.mrseam),
        check_launch("MRCONFIGID", mrconfigid, binding, report.mrconfigid),
        OneOf("MROWNER", policy.mrowners, _MANIFEST).check(report.mrowner),
        OneOf("MROWNERCONFIG", policy.mrownerconfigs, _MANIFEST).check(report.mrownerconfig),
    ]
    if report.mrservicetd is not None:
        checks.append(
            Equals("MRSERVICETD", bytes(MEASUREMENT_SIZE), _VERIFIER).check(report.mrservicetd)
        )
    return checks + _check_references(report, references)


def check_platform(pck: PckExtension, policy: TdxPolicy) -> list[Check]:
    """Whether the manifest accepts this machine."""
    instance: Claim
    if OptOut.ANY_PLATFORM in policy.opt_outs:
        instance = InsecureAny("platform instance", OptOut.ANY_PLATFORM, _MANIFEST)
    else:
        instance = OneOf("platform instance", policy.platform_instances, _MANIFEST)
    return [
        instance.check(pck.platform_instance_id or "not stated"),
        _one_of_or_signed("platform FMSPC", policy.fmspcs, pck.fmspc),
    ]


def _one_of_or_signed(name: str, accepted: Sequence[bytes] | None, seen: bytes) -> Check:
    """What the manifest leaves to Intel is in the TCB's status; the verdict says so here."""
    if accepted is None:
        return Check(name, "any that Intel's TCB info knows", seen.hex(), True, _MANIFEST)
    return OneOf(name, accepted, _MANIFEST).check(seen)


def check_tcb(
    appraisal: Appraisal, info: TcbInfo, identity: QeIdentity, policy: TdxPolicy
) -> list[Check]:
    """Whether the manifest accepts what Intel thinks of the platform, and how recently."""
    minimum = policy.minimum_tcb_evaluation_data_number
    return [
        OneOf("TCB status", policy.tcb_statuses, _MANIFEST).check(
            appraisal.status or appraisal.reason
        ),
        Check(
            "TCB advisories",
            "none but " + " ".join(policy.advisories) if policy.advisories else "none",
            " ".join(appraisal.advisories) or "none",
            set(appraisal.advisories) <= set(policy.advisories),
            _MANIFEST,
        ),
        AtLeast("TCB info: evaluation data number", minimum, _MANIFEST).check(
            info.evaluation_data_number
        ),
        AtLeast("QE identity: evaluation data number", minimum, _MANIFEST).check(
            identity.evaluation_data_number
        ),
    ]


def _check_attributes(attributes: int, policy: TdxPolicy) -> list[Check]:
    debug: Claim = Bits("TD attributes: DEBUG", ATTRIBUTE_DEBUG, 0, _VERIFIER)
    if OptOut.ALLOW_DEBUG in policy.opt_outs:
        debug = InsecureAny("TD attributes: DEBUG", OptOut.ALLOW_DEBUG, _MANIFEST)
    sept = ATTRIBUTE_SEPT_VE_DISABLE
    sept_ve: Claim = Bits("TD attributes: SEPT_VE_DISABLE", sept, sept, _VERIFIER)
    if OptOut.ALLOW_SEPT_VE in policy.opt_outs:
        sept_ve = InsecureAny("TD attributes: SEPT_VE_DISABLE", OptOut.ALLOW_SEPT_VE, _MANIFEST)
    others = Bits("TD attributes: no others", _ALL_BITS & ~KNOWN_ATTRIBUTES, 0, _VERIFIER)
    wanted = Bits("TD attributes", policy.attributes.mask, policy.attributes.value, _MANIFEST)
    return [claim.check(attributes) for claim in (debug, sept_ve, others, wanted)]


def _check_references(report: TdReport, references: Sequence[TdxReference]) -> list[Check]:
    """The registers beside those of the reference with the fewest that differ."""
    if not references:
        return [Check("measurements", "one of the accepted shapes", "no shape", False, _MANIFEST)]
    seen = report.registers
    closest = min(references, key=lambda r: sum(r.registers[name] != seen[name] for name in seen))
    return [
        Equals(
            f"{name} ({REGISTER_COVERS[name]})", value, f"{_MANIFEST}, shape {closest.shape}"
        ).check(seen[name])
        for name, value in closest.registers.items()
    ]
