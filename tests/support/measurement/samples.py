"""Images, predictions, reports and event logs that belong together, for several test modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from measure import eventlog, firmware, image, pcr, report, shapes
from measure.shapes import Shape
from tests.support.measurement import builders

# The type of a register's events, where their digest is not over what is logged.
_TYPES = {0: 0x80000008, 4: 0x80000003, 9: 6}
_IPL, _SEPARATOR, _ACTION = 0x0D, 0x04, 0x80000007


def predict(
    uki: bytes | None = None, flash: bytes | None = None, shape: Shape = shapes.OVMF_DISK
) -> pcr.Prediction:
    disk = image.parse(builders.bootable_disk(uki), "disk")
    code = firmware.measure(builders.firmware() if flash is None else flash, "firmware")
    return pcr.predict(shape, disk, code)


def measurements(
    uki: bytes | None = None,
    flash: bytes | None = None,
    machines: Sequence[Shape] = (shapes.OVMF_DISK,),
) -> dict[str, Any]:
    disk = builders.bootable_disk(uki)
    code = builders.firmware() if flash is None else flash
    parsed = image.parse(disk, "disk")
    measured = firmware.measure(code, "firmware")
    predictions = report.Predictions([pcr.predict(shape, parsed, measured) for shape in machines])
    return report.build("test", {"disk": disk, "firmware": code}, parsed, predictions)


def log_bytes(prediction: pcr.Prediction) -> bytes:
    """The event log of the boot that is predicted; it does not contradict itself."""
    return builders.log_header() + b"".join(_logged(event) for event in prediction.events)


def _logged(event: pcr.PcrEvent) -> bytes:
    if event.description == "separator":
        return builders.log_event(event.pcr, _SEPARATOR, bytes(4))
    if event.component is pcr.Component.BOOT_PATH:
        return builders.log_event(event.pcr, _ACTION, event.description.encode())
    data = event.description.encode("utf-16-le")
    return builders.log_event(event.pcr, _TYPES.get(event.pcr, _IPL), data, event.digest)


def log_of(prediction: pcr.Prediction, extra: bytes = b"") -> eventlog.EventLog:
    return eventlog.parse(log_bytes(prediction) + extra)


def changed_uki(**changes: bytes) -> bytes:
    return builders.uki({f".{name}": content for name, content in changes.items()})
