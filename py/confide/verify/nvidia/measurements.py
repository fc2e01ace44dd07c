"""Compares what a GPU measured with NVIDIA's reference values, index by index.

Rules, as NVIDIA's own verifiers have them:
- A RIM's resource with index i is about the report's measurement block i + 1.
- A measurement has to be one of the digests there. Resources that are not active say nothing.
- Index 35 says nothing either while the report states that video decoder 0 is off.
- Driver and VBIOS RIM may not both be about one index: that would be two truths.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from confide.protocol.policy.gpu import GpuPolicy
from confide.vendors.nvidia.rim import Rim
from confide.vendors.nvidia.spdm import DISABLED, Field, Report
from confide.verify.verdict import Check

NVDEC0_INDEX = 35

_IGNORED = "insecure_ignored_measurements"


def differing(report: Report, rim: Rim) -> list[int]:
    """The indexes at which the report has none of the RIM's digests."""
    off = report.opaque.get(Field.NVDEC0_STATUS) == bytes([DISABLED])
    measured = dict(enumerate(report.measurements))
    return [
        index
        for index, digests in sorted(rim.active.items())
        if measured.get(index) not in digests and not (off and index == NVDEC0_INDEX)
    ]


def check_measurements(name: str, report: Report, rim: Rim, policy: GpuPolicy) -> Check:
    """Passes if every active measurement is as in the RIM, or the policy ignores its index."""
    wrong = differing(report, rim)
    ignored = [index for index in wrong if index in policy.insecure_ignored_measurements]
    counted = [index for index in wrong if index not in ignored]
    total = len(rim.active)
    seen = f"{total - len(wrong)} of {total} as in the RIM"
    if counted:
        seen += f", other values at {_numbers(counted)}"
    if ignored:
        seen += f", {_numbers(ignored)} ignored because of {_IGNORED}"
    return Check(name, f"all {total} as in the RIM", seen, not counted, "RIM")


def check_conflict(name: str, rims: Collection[Rim]) -> Check:
    """Passes if no index is active in more than one of the RIMs."""
    seen_once: set[int] = set()
    twice: set[int] = set()
    for rim in rims:
        twice |= seen_once & set(rim.active)
        seen_once |= set(rim.active)
    seen = f"in two: {_numbers(sorted(twice))}" if twice else "each in one"
    return Check(name, "each index in one RIM", seen, not twice, "RIM")


def _numbers(indexes: Iterable[int]) -> str:
    return " ".join(map(str, indexes))
