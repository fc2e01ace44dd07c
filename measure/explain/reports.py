"""Two measurements files compared with each other, machine by machine and file by file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from measure import pcr, report
from measure.explain import sev_snp, tdx, vtpm
from measure.explain.commandline import command_lines
from measure.explain.difference import NOTHING, Difference
from measure.pcr import COMPONENT_OF_SECTION, Component
from measure.snp import prediction
from measure.tdx import rtmr, shapefile
from measure.tdx.shape import PageOrder

_Prediction = TypeVar("_Prediction", pcr.Prediction, prediction.Prediction, rtmr.Prediction)

_COMMAND_LINE = {Component.COMMAND_LINE, Component.ROOT_HASH}
_UKI = {*COMPONENT_OF_SECTION.values(), *_COMMAND_LINE, Component.UKI, Component.UKI_OTHER}
# The measured parts of each file. If one of them is listed, a different hash of the file follows.
_INSIDE = {
    "linux": {Component.KERNEL},
    "initrd": {Component.INITRD},
    "cmdline": _COMMAND_LINE,
    "uki": _UKI,
    "disk": _UKI | {Component.PARTITION_TABLE},
}
# Equal where two are compared, or compared by `tdx.diff`.
_COMPARED = {"name", "attributes", "xfam"}


def diff(a: dict[str, Any], b: dict[str, Any], file_a: str, file_b: str) -> list[Difference]:
    """Compares two parsed measurements.json, `a` expected and `b` seen.

    What several machines have in common is listed once. The image's name and the texts for people
    are not compared.

    Raises:
        FormatError: malformed measurements.
    """
    expected, seen = report.read(a, file_a), report.read(b, file_b)
    found = [
        *_machines(report.VTPM, expected.vtpm, seen.vtpm, vtpm.diff),
        *_machines(report.SEV_SNP, expected.sev_snp, seen.sev_snp, sev_snp.diff),
        *_machines(report.TDX, expected.tdx, seen.tdx, _tdx),
        *_command_lines(a["command_line"], b["command_line"]),
    ]
    found += _files(a["files"], b["files"], {difference.component for difference in found})
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


def _tdx(expected: rtmr.Prediction, seen: rtmr.Prediction) -> list[Difference]:
    """The registers, then what a verifier does not get, but what the registers are of."""
    found = tdx.diff(expected, seen)
    compared = (expected.shape.page_order, seen.shape.page_order)
    for order in PageOrder:
        left, right = expected.mrtd[order].hex(), seen.mrtd[order].hex()
        if left != right and compared != (order, order):
            text = f"its value for {order.value}"
            found.append(Difference("MRTD", Component.FIRMWARE, text, left, right))
    sides = shapefile.dump(expected.shape), shapefile.dump(seen.shape)
    for field in sorted((sides[0].keys() | sides[1].keys()) - _COMPARED):
        left, right = (str(side.get(field, NOTHING)) for side in sides)
        if left != right:
            text = f"{field} of {expected.shape.name}"
            found.append(Difference(report.TDX, Component.SHAPE, text, left, right))
    return found


def _command_lines(expected: str, seen: str) -> list[Difference]:
    """Layers and words that differ, or the lines where only the order or a space does."""
    found = command_lines("command line", expected, seen)
    if not found and expected != seen:
        text = "the same layers and words, written differently"
        found.append(
            Difference("command line", Component.COMMAND_LINE, text, ascii(expected), ascii(seen))
        )
    return found


def _files(
    expected: Mapping[str, Any], seen: Mapping[str, Any], listed: set[Component]
) -> Iterator[Difference]:
    """Files whose hashes differ though nothing is listed that is in them; firmware always."""
    for name in sorted(expected.keys() | seen.keys()):
        left, right = (_file_text(side.get(name)) for side in (expected, seen))
        if left != right and not listed & _INSIDE.get(name, set()):
            firmware = name in report.FIRMWARE.values()
            component = Component.FIRMWARE if firmware else Component.UNEXPLAINED
            yield Difference("files", component, f"SHA-256 of {name}", left, right)


def _file_text(entry: Mapping[str, Any] | None) -> str:
    return NOTHING if entry is None else f"{entry['sha256']} ({entry['size']} bytes)"
