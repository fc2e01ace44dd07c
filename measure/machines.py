"""images/shapes.json: for which machines an image is measured.

    {"format": "confide-shapes/1",
     "vtpm": ["ovmf-disk", ...],
     "sev-snp": [{"vmm": "qemu", "vcpu_type": "EPYC-Genoa", "vcpus": [1, 2], "guest_features": 1}],
     "tdx": [{"name": "qemu-2", "vcpus": 2, "disks": 1, "gpus": 0, "machine": "q35,...", ...}]}

How a TDX machine is started (`vcpus`, `disks`, `gpus`, QEMU's `machine`) shows in its ACPI tables;
`measure.tdx.shapefile` describes the other fields.
Each machine is stated in full: nothing that is measured has a default here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from measure.declare import Nested, Wire, decode
from measure.errors import FormatError
from measure.kinds import Integer, ListOf, NoneAs, Text, Word
from measure.shapes import VTPM_SHAPES, Shape
from measure.snp import cpu, features, vmsa
from measure.snp.launch import MAX_VCPUS
from measure.snp.prediction import SnpShape
from measure.tdx.shape import TdxShape
from measure.tdx.shapefile import NamedShape
from measure.tdx.start import Start

FORMAT = "confide-shapes/1"
MAX_SHAPES_FILE = 1 << 20
MAX_MACHINES = 256  # of a platform


@dataclass(frozen=True)
class SnpMachines:
    """SEV-SNP machines that differ in their number of vCPUs only."""

    vmm: Annotated[str, Word(tuple(vmsa.VMMS))]
    vcpu_type: Annotated[str | None, NoneAs(None, Word(tuple(cpu.TYPES)))]
    vcpus: Annotated[tuple[int, ...], ListOf(Integer(1, MAX_VCPUS))]
    guest_features: Annotated[int, Integer(maximum=2**64 - 1)]


@dataclass(frozen=True, kw_only=True)
class TdxMachine(NamedShape):
    """A TDX machine, and how it is started."""

    vcpus: Annotated[int, Integer()]
    disks: Annotated[int, Integer()]
    gpus: Annotated[int, Integer()]
    machine: Annotated[str, Text()]


@dataclass(frozen=True)
class ShapesFile:
    """shapes.json."""

    vtpm: Annotated[tuple[str, ...], ListOf(Word(tuple(VTPM_SHAPES)))]
    sev_snp: Annotated[tuple[SnpMachines, ...], ListOf(Nested(SnpMachines)), Wire("sev-snp")]
    tdx: Annotated[tuple[TdxMachine, ...], ListOf(Nested(TdxMachine))]
    format: Annotated[str, Word((FORMAT,))] = field(default=FORMAT, init=False)


@dataclass(frozen=True)
class Machines:
    """The machines of each platform, in the file's order; none of a platform that is not wanted."""

    vtpm: tuple[Shape, ...] = ()
    sev_snp: tuple[SnpShape, ...] = ()
    tdx: tuple[TdxShape, ...] = ()


def parse(data: bytes, file: str) -> Machines:
    """Reads shapes.json.

    Raises:
        FieldError: not of the declared form.
        FormatError: no JSON, too large, or a machine twice.
        InputError, UnsupportedError: a value that no machine can have.
    """
    if len(data) > MAX_SHAPES_FILE:
        raise FormatError("too large for shapes.json", file=file, seen=f"{len(data)} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}", file=file) from None
    found = decode(ShapesFile, value, "the list of machines", file=file)
    machines = Machines(
        vtpm=tuple(VTPM_SHAPES[name] for name in found.vtpm),
        sev_snp=tuple(shape for listed in found.sev_snp for shape in _snp(listed)),
        tdx=tuple(
            listed.shape(
                listed.name, Start(listed.vcpus, listed.disks, listed.gpus, listed.machine)
            )
            for listed in found.tdx
        ),
    )
    for shapes in (machines.vtpm, machines.sev_snp, machines.tdx):
        _unique([shape.name for shape in shapes], file)
    return machines


def _snp(listed: SnpMachines) -> list[SnpShape]:
    """One machine for each number of vCPUs; that the values go together is checked at launch."""
    guest_features = features.check(listed.guest_features)
    return [SnpShape(listed.vmm, listed.vcpu_type, count, guest_features) for count in listed.vcpus]


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
