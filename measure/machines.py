"""images/shapes.json: for which machines an image is measured.

    {"format": "confide-shapes/1",
     "vtpm": ["ovmf-disk", ...],
     "sev-snp": [{"vmm": "qemu", "vcpu_type": "EPYC-Milan", "vcpus": [1, 2], "guest_features": 1}],
     "tdx": [{"name": "qemu-2", "vcpus": 2, "disks": 1, "gpus": 0, "machine": "q35,...", ...}]}

How a TDX machine is started (`vcpus`, `disks`, `gpus`, QEMU's `machine`) shows in its ACPI tables;
`measure.tdx.shapefile` describes the other fields.
Each machine is stated in full: nothing that is measured has a default here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from measure.errors import FormatError
from measure.shapes import VTPM_SHAPES, Shape
from measure.snp import cpu, features, vmsa
from measure.snp.launch import MAX_VCPUS
from measure.snp.prediction import SnpShape
from measure.tdx import shapefile
from measure.tdx.shape import TdxShape
from measure.tdx.start import Start

FORMAT = "confide-shapes/1"
MAX_SHAPES_FILE = 1 << 20
MAX_MACHINES = 256  # of a platform

_TDX_START_FIELDS = {"vcpus": int, "disks": int, "gpus": int, "machine": str}
_SNP_FIELDS = {"vmm", "vcpu_type", "vcpus", "guest_features"}


@dataclass(frozen=True)
class Machines:
    """The machines of each platform, in the file's order; none of a platform that is not wanted."""

    vtpm: tuple[Shape, ...] = ()
    sev_snp: tuple[SnpShape, ...] = ()
    tdx: tuple[TdxShape, ...] = ()


def parse(data: bytes, file: str) -> Machines:
    """Reads shapes.json.

    Raises:
        FormatError: not that format, a field too few or too many, a machine twice, or a value that
            no machine can have.
    """
    if len(data) > MAX_SHAPES_FILE:
        raise FormatError("too large for shapes.json", file=file, seen=f"{len(data)} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}", file=file) from None
    _object(value, {"format", "vtpm", "sev-snp", "tdx"}, "shapes", file)
    if value["format"] != FORMAT:
        seen = _text(value["format"])
        raise FormatError("not a shapes file", file=file, expected=FORMAT, seen=seen)
    machines = Machines(
        vtpm=tuple(_vtpm(name, file) for name in _list(value["vtpm"], "vtpm", file)),
        sev_snp=tuple(
            shape for item in _list(value["sev-snp"], "sev-snp", file) for shape in _snp(item, file)
        ),
        tdx=tuple(_tdx(item, file) for item in _list(value["tdx"], "tdx", file)),
    )
    _unique([shape.name for shape in machines.vtpm], file)
    _unique([shape.name for shape in machines.sev_snp], file)
    _unique([shape.name for shape in machines.tdx], file)
    return machines


def _vtpm(name: Any, file: str) -> Shape:
    if not isinstance(name, str) or name not in VTPM_SHAPES:
        raise FormatError(
            "unknown vtpm machine",
            file=file,
            expected="one of " + ", ".join(VTPM_SHAPES),
            seen=_text(name),
        )
    return VTPM_SHAPES[name]


def _snp(item: Any, file: str) -> list[SnpShape]:
    """One machine for each number of vCPUs; that the values go together is checked at launch."""
    _object(item, _SNP_FIELDS, "sev-snp machine", file)
    vmm, vcpu_type = item["vmm"], item["vcpu_type"]
    counts = _list(item["vcpus"], "vcpus", file)
    for what, value, known in (("VMM", vmm, vmsa.VMMS), ("vCPU type", vcpu_type, cpu.TYPES)):
        absent = value is None and what == "vCPU type"
        if not absent and (not isinstance(value, str) or value not in known):
            expected = "one of " + ", ".join(known)
            raise FormatError(f"unknown {what}", file=file, expected=expected, seen=_text(value))
    for count in counts:
        if type(count) is not int or not 1 <= count <= MAX_VCPUS:
            raise FormatError(
                "bad number of vCPUs", file=file, expected=f"1 to {MAX_VCPUS}", seen=_text(count)
            )
    if type(item["guest_features"]) is not int:
        raise FormatError(
            "bad guest features", file=file, expected="a number", seen=_text(item["guest_features"])
        )
    guest_features = features.check(item["guest_features"])
    return [SnpShape(vmm, vcpu_type, count, guest_features) for count in counts]


def _tdx(item: Any, file: str) -> TdxShape:
    """A machine, and how it is started."""
    for field, kind in _TDX_START_FIELDS.items():
        if not isinstance(item, dict) or type(item.get(field)) is not kind:
            raise FormatError(
                "bad tdx machine",
                file=file,
                expected=f"{field} ({kind.__name__}) and more",
                seen=_text(item),
            )
    fields = {key: value for key, value in item.items() if key not in _TDX_START_FIELDS}
    start = Start(**{field: item[field] for field in _TDX_START_FIELDS})
    return replace(shapefile.load(fields, file), start=start)


def _object(value: Any, fields: set[str], what: str, file: str) -> None:
    if not isinstance(value, dict) or set(value) != fields:
        raise FormatError(
            f"bad {what}",
            file=file,
            expected=f"an object of {', '.join(sorted(fields))}",
            seen=", ".join(value)[:200] if isinstance(value, dict) else _text(value),
        )


def _list(value: Any, what: str, file: str) -> list[Any]:
    if not isinstance(value, list):
        raise FormatError(f"bad {what}", file=file, expected="a list", seen=_text(value))
    return value


def _unique(names: Sequence[str], file: str) -> None:
    if len(names) > MAX_MACHINES:
        raise FormatError(
            "too many machines of a platform",
            file=file,
            expected=f"at most {MAX_MACHINES}",
            seen=str(len(names)),
        )
    for name in names:
        if names.count(name) > 1:
            raise FormatError("a machine is there twice", file=file, seen=name)


def _text(value: Any) -> str:
    return repr(value)[:80]
