"""measurements.json: what an image measures to, in one canonical file.

Canonical JSON: keys sorted, two spaces of indentation, ASCII, one newline at the end; so equal
measurements are equal bytes. What is in the file is computed again from as little of it as
possible, and the whole file is written again and compared, when it is read.
`measurements.schema.json` beside this package says the same to other programs.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from measure import pcr
from measure.errors import FormatError, InputError, MeasureError
from measure.image import DiskImage, Layer, parse_layers
from measure.machines import MAX_MACHINES
from measure.report import snp as snp_json
from measure.report import tdx as tdx_json
from measure.report import vtpm as vtpm_json
from measure.report.events import is_line
from measure.snp import prediction as snp
from measure.snp.kernel import KernelHashes
from measure.tdx import rtmr
from measure.uki import Section

FORMAT = "confide-measurements/2"
MAX_REPORT = 4 << 20

VTPM, SEV_SNP, TDX = "vtpm", "sev-snp", "tdx"
# Each platform, and the name in `files` of the firmware it starts with.
FIRMWARE = {VTPM: "firmware", SEV_SNP: "firmware-sev-snp", TDX: "firmware-tdx"}

# What reading raises for values that `build` does not write.
_NOT_WRITTEN = (LookupError, TypeError, ValueError, AttributeError, struct.error)
_FIELDS = {"format", "image", "files", "command_line", "layers", "firmware", "platforms"}
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
    if not is_line(name):
        raise InputError("bad name of an image", expected="printable ASCII", seen=ascii(name)[:80])
    predicted = _write(predictions)
    if not predicted["platforms"]:
        raise InputError("no platform to measure for; give a firmware")
    inside = {"uki": image.uki_bytes} | {
        name: image.uki.sections[section] for name, section in _SECTION_FILES.items()
    }
    return {
        "format": FORMAT,
        "image": name,
        "files": {
            key: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for key, data in {**files, **inside}.items()
        },
        "command_line": image.uki.command_line,
        "layers": _layers(image.layers),
        **predicted,
    }


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
    if set(report) != _FIELDS or report["format"] != FORMAT:
        raise FormatError(
            "not a measurements file",
            file=file,
            expected=f"{FORMAT}: {sorted(_FIELDS)}",
            seen=f"{report.get('format')!r}: {sorted(report)}"[:200],
        )
    for field in ("image", "command_line"):
        if not is_line(report[field]):
            raise FormatError(
                f"bad {field} in the measurements",
                file=file,
                expected="printable ASCII",
                seen=ascii(report[field])[:80],
            )
    if report["layers"] != _layers(parse_layers(report["command_line"], file)):
        raise FormatError("the layers are not those of the command line", file=file)
    read(report, file)
    return report


def read(report: dict[str, Any], file: str) -> Predictions:
    """The predictions in a report, of which there is at least one.

    Raises:
        FormatError: something malformed, or a value that does not follow from what it is made of.
    """
    try:
        found = _read(report)
        complete = all(report[field] == value for field, value in _write(found).items())
    except (*_NOT_WRITTEN, MeasureError) as error:
        reason = ascii(f"{type(error).__name__} {error}")[1:-1][:200]
        raise FormatError("bad platform in the measurements", file=file, seen=reason) from None
    if not complete or not report["platforms"]:
        raise FormatError(
            "the values in the measurements do not follow from the events beside them", file=file
        )
    _check_files(report, file)
    return found


def _write(found: Predictions) -> dict[str, Any]:
    """The two fields of a report that hold predictions."""
    platforms: dict[str, Any] = {}
    firmware: dict[str, Any] = {}
    if found.vtpm:
        platforms[VTPM] = vtpm_json.write(found.vtpm)
    if found.sev_snp:
        platforms[SEV_SNP] = snp_json.write(found.sev_snp)
        firmware[SEV_SNP] = snp_json.write_firmware(found.sev_snp[0].launch.firmware)
    if found.tdx:
        platforms[TDX] = tdx_json.write(found.tdx)
    return {"firmware": firmware, "platforms": platforms}


def _read(report: dict[str, Any]) -> Predictions:
    platforms = report["platforms"]
    if any(len(listed) > MAX_MACHINES for listed in platforms.values()):
        raise ValueError(f"more than {MAX_MACHINES} machines of a platform")
    sev_snp: Sequence[snp.Prediction] = ()
    if SEV_SNP in platforms:
        firmware = snp_json.read_firmware(report["firmware"][SEV_SNP])
        sev_snp = snp_json.read(platforms[SEV_SNP], firmware, _kernel(report))
    found = Predictions(
        vtpm=vtpm_json.read(platforms.get(VTPM, [])),
        sev_snp=sev_snp,
        tdx=tdx_json.read(platforms.get(TDX, [])),
    )
    for predictions in (found.vtpm, found.sev_snp, found.tdx):
        if len({p.shape.name for p in predictions}) < len(predictions):
            raise ValueError("a machine is there twice")
    return found


def _kernel(report: dict[str, Any]) -> KernelHashes:
    """What a direct boot of the image passes, by its hashes in the report."""
    files = report["files"]
    return KernelHashes(
        kernel=bytes.fromhex(files["linux"]["sha256"]),
        initrd=bytes.fromhex(files["initrd"]["sha256"]),
        command_line=hashlib.sha256(report["command_line"].encode("ascii") + b"\0").digest(),
    )


def _check_files(report: dict[str, Any], file: str) -> None:
    """Raises unless `files` has the disk, what is in it, and no firmware but the platforms'."""
    files, inside = report["files"], {"disk", "uki", *_SECTION_FILES}
    firmware = {FIRMWARE[name] for name in report["platforms"]}
    if not isinstance(files, dict) or not inside <= set(files) <= inside | firmware:
        raise FormatError(
            "the measurements do not list the files they are of",
            file=file,
            expected=", ".join(sorted(inside | firmware)),
            seen=repr(files)[:200],
        )
    for name, entry in files.items():
        known = isinstance(entry, dict) and set(entry) == {"sha256", "size"}
        if not known or type(entry["size"]) is not int or not _is_sha256(entry["sha256"]):
            raise FormatError(
                f"bad entry for {name} in the measurements",
                file=file,
                expected="sha256 (64 hex digits) and size",
                seen=repr(entry)[:120],
            )


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _layers(layers: Sequence[Layer]) -> list[dict[str, str]]:
    return [{"name": layer.name, "root_hash": layer.root_hash} for layer in layers]
