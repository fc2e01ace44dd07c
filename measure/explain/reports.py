"""Two measurements files compared with each other, machine by machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from measure import pcr, report
from measure.explain import sev_snp, tdx, vtpm
from measure.explain.commandline import command_lines
from measure.explain.difference import NOTHING, Difference
from measure.pcr import Component
from measure.snp import prediction
from measure.tdx import rtmr

_Prediction = TypeVar("_Prediction", pcr.Prediction, prediction.Prediction, rtmr.Prediction)


def diff(a: dict[str, Any], b: dict[str, Any], file_a: str, file_b: str) -> list[Difference]:
    """Compares two parsed measurements.json, `a` expected and `b` seen.

    What several machines have in common is listed once.

    Raises:
        FormatError: malformed measurements.
    """
    expected, seen = report.read(a, file_a), report.read(b, file_b)
    found = [
        *_machines(report.VTPM, expected.vtpm, seen.vtpm, vtpm.diff),
        *_machines(report.SEV_SNP, expected.sev_snp, seen.sev_snp, sev_snp.diff),
        *_machines(report.TDX, expected.tdx, seen.tdx, tdx.diff),
        *command_lines("command line", a["command_line"], b["command_line"]),
    ]
    return list(dict.fromkeys(found))


def _machines(
    platform: str,
    expected: Sequence[_Prediction],
    seen: Sequence[_Prediction],
    compare: Callable[[_Prediction, _Prediction], list[Difference]],
) -> Iterator[Difference]:
    """What differs on one platform: machines that only one side has, then the common ones."""
    left, right = ({p.shape.name: p for p in side} for side in (expected, seen))
    for name in sorted(left.keys() ^ right.keys()):
        wanted, got = ("measured" if name in side else NOTHING for side in (left, right))
        yield Difference(platform, Component.SHAPE, name, wanted, got)
    for name, one in left.items():
        if name in right:
            yield from compare(one, right[name])
