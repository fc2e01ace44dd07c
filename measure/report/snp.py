"""Platform `sev-snp` in measurements.json: launch digests, and what the firmware says of itself.

The firmware's pages are there as one digest. With the hashes of kernel, initrd and command line,
which the file has anyway, that is enough to compute every launch digest again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from measure import ovmf
from measure.snp import firmware
from measure.snp.firmware import Firmware, SectionType
from measure.snp.kernel import TABLE_SIZE, KernelHashes
from measure.snp.prediction import Prediction, SnpShape, predict


def write(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """The platform's JSON."""
    return [_write(prediction) for prediction in predictions]


def read(
    platform: list[dict[str, Any]], started: Firmware, kernel: KernelHashes
) -> tuple[Prediction, ...]:
    """What `write` was given, computed anew from firmware, kernel and machines.

    Raises:
        LookupError, TypeError, ValueError, AttributeError, MeasureError: it did not write this.
    """
    shapes = [
        SnpShape(
            item["vmm"],
            item["vcpu_type"],
            _number(item["vcpus"]),
            _number(item["guest_features"]),
        )
        for item in platform
    ]
    return predict(shapes, started, kernel)


def write_firmware(described: Firmware) -> dict[str, Any]:
    """What a launch needs to know of a firmware, as JSON."""
    return {
        "digest": described.ovmf_hash.hex(),
        "sections": [
            {"type": s.type.name, "address": hex(s.gpa), "size": s.size} for s in described.sections
        ],
        "hash_table_offset": described.hash_table,
        "reset_address": None if described.reset_eip is None else hex(described.reset_eip),
    }


def read_firmware(described: dict[str, Any]) -> Firmware:
    """What `write_firmware` was given; raises as `read` does."""
    sections = [
        ovmf.SevSection(int(s["address"], 16), _number(s["size"]), SectionType[s["type"]].value, 0)
        for s in described["sections"]
    ]
    offset, reset = described["hash_table_offset"], described["reset_address"]
    pages = [s.gpa for s in sections if s.type == SectionType.KERNEL_HASHES]
    return firmware.from_metadata(
        bytes.fromhex(described["digest"]),
        tuple(sections),
        None if offset is None else ovmf.HashTable(pages[0] + _number(offset), TABLE_SIZE),
        None if reset is None else int(reset, 16),
        "firmware in the measurements",
    )


def _write(prediction: Prediction) -> dict[str, Any]:
    shape = prediction.shape
    return {
        "shape": shape.name,
        "vmm": shape.vmm,
        "vcpu_type": shape.vcpu_type,
        "vcpus": shape.vcpus,
        "guest_features": shape.guest_features,
        "launch_digest": prediction.digest.hex(),
        "components": [
            {"component": c.name, "description": c.description, "digest": c.value.hex()}
            for c in prediction.launch.components(shape.vcpus)
        ],
    }


def _number(value: Any) -> int:
    # JSON's true is 1 to Python.
    if type(value) is not int:
        raise TypeError(f"not a number: {value!r:.40}")
    return value
