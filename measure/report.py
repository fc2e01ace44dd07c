"""measurements.json: what an image measures to, in one canonical file.

Canonical JSON: keys sorted, two spaces of indentation, ASCII, one newline at the end; so equal
measurements are equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from measure.errors import FormatError
from measure.image import DiskImage, Layer, parse_layers
from measure.pcr import Component, PcrEvent, Prediction
from measure.shapes import OVMF_DISK, Shape
from measure.uki import Section

FORMAT = "confide-measurements/1"
MAX_REPORT = 4 << 20
SHAPES = {OVMF_DISK.name: OVMF_DISK}

_FIELDS = {"format", "image", "files", "command_line", "layers", "platforms"}
_SECTION_FILES = {"linux": Section.LINUX, "initrd": Section.INITRD, "cmdline": Section.CMDLINE}


def build(
    name: str, disk: bytes | memoryview, firmware: bytes, image: DiskImage, prediction: Prediction
) -> dict[str, Any]:
    """The content of measurements.json.

    `files` has size and SHA-256 of the inputs (disk, firmware) and of what is inside the disk
    (the UKI and three of its sections).
    """
    files = {"disk": disk, "firmware": firmware, "uki": image.uki_bytes}
    sections = {name: image.uki.sections[section] for name, section in _SECTION_FILES.items()}
    return {
        "format": FORMAT,
        "image": name,
        "files": {
            key: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for key, data in {**files, **sections}.items()
        },
        "command_line": image.uki.command_line,
        "layers": _layers(image.layers),
        "platforms": {"vtpm": [_platform(prediction)]},
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
    line, files = report["command_line"], report["files"]
    if not isinstance(line, str) or report["layers"] != _layers(parse_layers(line, file)):
        raise FormatError("the layers are not those of the command line", file=file)
    if not isinstance(report["image"], str) or not isinstance(files, dict):
        raise FormatError("bad image name or files in the measurements", file=file)
    predictions(report, file)
    return report


def predictions(report: dict[str, Any], file: str) -> list[Prediction]:
    """The predictions in a report, at least one.

    Raises:
        FormatError: a malformed platform, or one that its own events do not give.
    """
    try:
        platforms = list(report["platforms"]["vtpm"])
        found = [_prediction(platform) for platform in platforms]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__} {error}"
        raise FormatError("bad vtpm platform in the measurements", file=file, seen=reason) from None
    # Registers, reasons and everything else follow from shape and events.
    if not found or [_platform(prediction) for prediction in found] != platforms:
        raise FormatError(
            "the events in the measurements do not give the registers beside them", file=file
        )
    return found


def _layers(layers: Sequence[Layer]) -> list[dict[str, str]]:
    return [{"name": layer.name, "root_hash": layer.root_hash} for layer in layers]


def _platform(prediction: Prediction) -> dict[str, Any]:
    shape = prediction.shape
    return {
        "shape": shape.name,
        "pcrs": _hex(prediction.pcrs()),
        "events": {
            str(pcr): [
                {
                    "component": event.component.value,
                    "description": event.description,
                    "digest": event.digest.hex(),
                }
                for event in prediction.of(pcr)
            ]
            for pcr in shape.predicted
        },
        "left_out": {str(pcr): why for pcr, why in shape.left_out.items()},
    }


def _prediction(platform: dict[str, Any]) -> Prediction:
    shape: Shape = SHAPES[platform["shape"]]
    events = [
        PcrEvent(
            int(pcr),
            Component(event["component"]),
            str(event["description"]),
            bytes.fromhex(event["digest"]),
        )
        for pcr, listed in platform["events"].items()
        for event in listed
    ]
    return Prediction(shape, tuple(events))


def _hex(pcrs: dict[int, bytes]) -> dict[str, str]:
    return {str(pcr): value.hex() for pcr, value in pcrs.items()}
