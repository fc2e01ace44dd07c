"""Platform `tdx` in measurements.json: MRTD, registers, and the events that give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from measure.report import events
from measure.tdx import shapefile
from measure.tdx.rtmr import COVERS, Prediction, RtmrEvent
from measure.tdx.shape import PageOrder

# measurements.json calls a machine's name "shape" on every platform.
_NAME, _SHAPE = "name", "shape"
_DIGEST_SIZE = 48


def write(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """The platform's JSON."""
    return [_write(prediction) for prediction in predictions]


def read(platform: list[dict[str, Any]]) -> list[Prediction]:
    """What `write` was given.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, MeasureError: it did not write this.
    """
    return [_read(item) for item in platform]


def _write(prediction: Prediction) -> dict[str, Any]:
    fields = shapefile.dump(prediction.shape)
    return {
        _SHAPE: fields.pop(_NAME),
        **fields,
        "mrtd": {order.value: value.hex() for order, value in prediction.mrtd.items()},
        "rtmrs": {str(rtmr): value.hex() for rtmr, value in prediction.rtmrs().items()},
        "events": {str(rtmr): events.write(prediction.of(rtmr)) for rtmr in COVERS},
    }


def _read(item: dict[str, Any]) -> Prediction:
    fields = {key: item[key] for key in (shapefile.FIELDS | {shapefile.OPTIONAL}) & set(item)}
    fields[_NAME] = item[_SHAPE]
    found = (RtmrEvent(*event) for event in events.read(item["events"], _DIGEST_SIZE))
    mrtd = {order: bytes.fromhex(item["mrtd"][order.value]) for order in PageOrder}
    if any(len(value) != _DIGEST_SIZE for value in mrtd.values()):
        raise ValueError("MRTD is not 48 bytes")
    return Prediction(shapefile.load(fields, "measurements"), mrtd, tuple(found))
