"""A small image measured for every platform, made once for several test modules."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

from measure import image, report, shapes
from measure.pcr import Component
from measure.snp import firmware, prediction
from measure.snp.kernel import KernelHashes
from measure.tdx.rtmr import Prediction, RtmrEvent
from measure.tdx.shape import Boot, PageOrder, TdxShape
from measure.uki import Section
from tests.support.measurement import builders, ovmf_builders, samples

SNP_SHAPES = (
    prediction.SnpShape("qemu", "EPYC-Milan", 1, 1),
    prediction.SnpShape("qemu", "EPYC-Milan", 4, 1),
    prediction.SnpShape("qemu", "EPYC-Genoa", 4, 0x21),
    prediction.SnpShape("ec2", None, 2, 1),
)
TDX_SHAPES = (
    TdxShape("qemu-2", 2 << 30, (2026, 8), PageOrder.SINGLE, 1 << 28, 0x61AE7, Boot.DIRECT),
    TdxShape(
        "disk-4",
        4 << 30,
        (2025, 2),
        PageOrder.TWO,
        1 << 28,
        0x61AE7,
        Boot.DISK,
        (("BootOrder", b"\1\0"), ("Boot0001", b"option")),
    ),
)


def tdx_prediction(shape: TdxShape) -> Prediction:
    """Made-up events: what a report does with them does not depend on what they are of."""
    components = {0: Component.ACPI_TABLES, 1: Component.KERNEL, 2: Component.INITRD}
    events = tuple(
        RtmrEvent(rtmr, component, f"event {rtmr}", _sha384(f"{shape.name} {rtmr}"))
        for rtmr, component in components.items()
    )
    return Prediction(shape, {order: _sha384(order.value) for order in PageOrder}, events)


@functools.cache
def encoded() -> bytes:
    """measurements.json for all platforms."""
    disk, flash, started = builders.bootable_disk(), builders.firmware(), ovmf_builders.image()
    parsed = image.parse(disk, "disk")
    sections, line = parsed.uki.sections, parsed.uki.command_line.encode()
    kernel = KernelHashes.of(sections[Section.LINUX], sections[Section.INITRD], line)
    predictions = report.Predictions(
        vtpm=[samples.predict(shape=s) for s in (shapes.OVMF_DISK, shapes.OVMF_DIRECT)],
        sev_snp=prediction.predict(SNP_SHAPES, firmware.from_image(started, "f"), kernel),
        tdx=[tdx_prediction(shape) for shape in TDX_SHAPES],
    )
    files = {"disk": disk, "firmware": flash, "firmware-sev-snp": started, "firmware-tdx": b"tdx"}
    return report.encode(report.build("test", files, parsed, predictions))


def measurements() -> dict[str, Any]:
    """The same, parsed; the caller's to change."""
    return report.parse(encoded(), "measurements")


def _sha384(text: str) -> bytes:
    return hashlib.sha384(text.encode()).digest()
