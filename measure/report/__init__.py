"""measurements.json: what an image measures to, in one canonical file.

Canonical JSON: keys sorted, two spaces of indentation, ASCII, one newline at the end; so equal
measurements are equal bytes. What is in the file is computed again from as little of it as
possible, and the whole file is written again and compared, when it is read.
`form` lists the fields; `measurements.schema.json` beside this package says the same to other
programs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from measure import pcr
from measure.declare import decode
from measure.declare import encode as to_map
from measure.errors import FieldError, FormatError, InputError, MeasureError
from measure.image import DiskImage, Layer, parse_layers
from measure.report import snp as snp_json
from measure.report import tdx as tdx_json
from measure.report import vtpm as vtpm_json
from measure.report.form import (
    FORMAT,
    LINE,
    FileEntry,
    Files,
    FirmwareEntries,
    LayerEntry,
    Measurements,
    Platforms,
)
from measure.snp import prediction as snp
from measure.snp.kernel import KernelHashes
from measure.tdx import rtmr
from measure.uki import Section

__all__ = [
    "FIRMWARE",
    "FORMAT",
    "SEV_SNP",
    "TDX",
    "VTPM",
    "Predictions",
    "build",
    "encode",
    "parse",
    "read",
]

MAX_REPORT = 4 << 20

VTPM, SEV_SNP, TDX = "vtpm", "sev-snp", "tdx"
# Each platform, and the name in `files` of the firmware it starts with.
FIRMWARE = {VTPM: "firmware", SEV_SNP: "firmware-sev-snp", TDX: "firmware-tdx"}

_WHAT = "the measurements"
_SECTION_FILES = {"linux": Section.LINUX, "initrd": Section.INITRD, "cmdline": Section.CMDLINE}


@dataclass(frozen=True)
class Predictions:
    """What an image measures to, by platform; a platform that was not measured has none."""

    vtpm: Sequence[pcr.Prediction] = ()
    sev_snp: Sequence[snp.Prediction] = ()
    tdx: Sequence[rtmr.Prediction] = ()


def build(
    name: str,
    files: Mapping[str, bytes | memoryview],
    image: DiskImage,
    predictions: Predictions,
) -> dict[str, Any]:
    """The content of measurements.json.

    Args:
        name: the image's.
        files: the disk as "disk", and each platform's firmware by its name in `FIRMWARE`.
        image: the disk, parsed.
        predictions: for one platform at least.

    Raises:
        InputError: no prediction, or a name that is not printable ASCII.
    """
    try:
        LINE.decode(name, "the image's name")
    except FieldError as error:
        raise InputError(error.message, expected="printable ASCII", seen=error.seen) from None
    firmware, platforms = _write(predictions)
    if platforms == Platforms():
        raise InputError("no platform to measure for; give a firmware")
    inside = {"uki": image.uki_bytes} | {
        name: image.uki.sections[section] for name, section in _SECTION_FILES.items()
    }
    entries = {
        key.replace("-", "_"): FileEntry(hashlib.sha256(data).digest(), len(data))
        for key, data in {**files, **inside}.items()
    }
    line = image.uki.command_line
    return to_map(
        Measurements(name, Files(**entries), line, _layers(image.layers), firmware, platforms)
    )


def encode(report: dict[str, Any]) -> bytes:
    """Canonical bytes of a report."""
    text = json.dumps(report, sort_keys=True, indent=2, ensure_ascii=True, allow_nan=False)
    return text.encode("ascii") + b"\n"


def parse(data: bytes, file: str) -> dict[str, Any]:
    """Reads measurements.json; only canonical bytes of a complete report are accepted.

    Raises:
        FormatError: anything else.
    """
    if len(data) > MAX_REPORT:
        raise FormatError("too large for measurements.json", file=file, seen=f"{len(data)} bytes")
    try:
        report = json.loads(data)
        canonical = encode(report)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}", file=file) from None
    if not isinstance(report, dict) or canonical != data:
        raise FormatError("not canonical JSON, or not an object", file=file)
    read(report, file)
    return report


def read(report: dict[str, Any], file: str) -> Predictions:
    """The predictions in a report, of which there is at least one.

    Raises:
        FormatError: something malformed, or a value that does not follow from what it is made of.
    """
    stated = decode(Measurements, report, _WHAT, file=file)
    if stated.layers != _layers(parse_layers(stated.command_line, file)):
        raise FormatError("the layers are not those of the command line", file=file)
    try:
        found = _read(stated)
    except MeasureError as error:
        reason = str(error)[:200]
        raise FormatError(
            "the measurements of a platform are invalid", file=file, seen=reason
        ) from None
    if (stated.firmware, stated.platforms) != _write(found) or stated.platforms == Platforms():
        raise FormatError(
            "the values in the measurements do not follow from the events beside them", file=file
        )
    _check_firmware(report, file)
    return found


def _write(found: Predictions) -> tuple[FirmwareEntries, Platforms]:
    """The two fields of a report that hold predictions."""
    described = found.sev_snp[0].launch.firmware if found.sev_snp else None
    platforms = Platforms(
        vtpm=tuple(map(vtpm_json.write, found.vtpm)),
        sev_snp=tuple(map(snp_json.write, found.sev_snp)),
        tdx=tuple(map(tdx_json.write, found.tdx)),
    )
    entry = None if described is None else snp_json.write_firmware(described)
    return FirmwareEntries(entry), platforms


def _read(stated: Measurements) -> Predictions:
    platforms, described = stated.platforms, stated.firmware.sev_snp
    sev_snp: Sequence[snp.Prediction] = ()
    if platforms.sev_snp:
        if described is None:
            raise FormatError("the SEV-SNP machines have no firmware")
        firmware = snp_json.read_firmware(described)
        sev_snp = snp_json.read(platforms.sev_snp, firmware, _kernel(stated))
    found = Predictions(
        vtpm=[vtpm_json.read(machine) for machine in platforms.vtpm],
        sev_snp=sev_snp,
        tdx=[tdx_json.read(machine) for machine in platforms.tdx],
    )
    for predictions in (found.vtpm, found.sev_snp, found.tdx):
        if len({p.shape.name for p in predictions}) < len(predictions):
            raise FormatError("a machine is there twice")
    return found


def _kernel(stated: Measurements) -> KernelHashes:
    """What a direct boot of the image passes, by its hashes in the report."""
    return KernelHashes(
        kernel=stated.files.linux.sha256,
        initrd=stated.files.initrd.sha256,
        command_line=hashlib.sha256(stated.command_line.encode("ascii") + b"\0").digest(),
    )


def _check_firmware(report: dict[str, Any], file: str) -> None:
    """Raises if `files` has a firmware of a platform that the report does not have."""
    expected = {FIRMWARE[name] for name in report["platforms"]}
    extra = sorted(set(FIRMWARE.values()) & set(report["files"]) - expected)
    if extra:
        raise FormatError(
            "the measurements list a firmware of a platform that they do not have",
            file=file,
            expected=", ".join(sorted(expected)),
            seen=", ".join(extra),
        )


def _layers(layers: Sequence[Layer]) -> tuple[LayerEntry, ...]:
    return tuple(LayerEntry(layer.name, bytes.fromhex(layer.root_hash)) for layer in layers)
