"""Two measurements files compared with each other, machine by machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from measure import report
from measure.explain import sev_snp, tdx, vtpm
from measure.explain.commandline import command_lines
from measure.explain.difference import NOTHING, Difference
from measure.pcr import Component


def diff(a: dict[str, Any], b: dict[str, Any], file_a: str, file_b: str) -> list[Difference]:
    """Compares two parsed measurements.json, `a` expected and `b` seen.

    What several machines have in common is listed once.

    Raises:
        FormatError: malformed measurements.
    """
    expected, seen = report.read(a, file_a), report.read(b, file_b)
    found: list[Difference] = []
    tpms = _by_shape(expected.vtpm), _by_shape(seen.vtpm)
    found += _only_in_one("vtpm", *tpms)
    for name in tpms[0].keys() & tpms[1].keys():
        found += vtpm.diff(tpms[0][name], tpms[1][name])
    launches = _by_shape(expected.sev_snp), _by_shape(seen.sev_snp)
    found += _only_in_one("sev-snp", *launches)
    for name in launches[0].keys() & launches[1].keys():
        found += sev_snp.diff(launches[0][name], launches[1][name])
    domains = _by_shape(expected.tdx), _by_shape(seen.tdx)
    found += _only_in_one("tdx", *domains)
    for name in domains[0].keys() & domains[1].keys():
        found += tdx.diff(domains[0][name], domains[1][name])
    found += command_lines("command line", a["command_line"], b["command_line"])
    return list(dict.fromkeys(found))


def _by_shape(predictions: Any) -> dict[str, Any]:
    return {prediction.shape.name: prediction for prediction in predictions}


def _only_in_one(
    platform: str, expected: Mapping[str, object], seen: Mapping[str, object]
) -> list[Difference]:
    return [
        Difference(
            platform,
            Component.SHAPE,
            name,
            "measured" if name in expected else NOTHING,
            "measured" if name in seen else NOTHING,
        )
        for name in sorted(expected.keys() ^ seen.keys())
    ]
