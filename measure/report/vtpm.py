"""Platform `vtpm` in measurements.json: registers, and the events that give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from measure.pcr import PcrEvent, Prediction
from measure.report import events
from measure.shapes import VTPM_SHAPES

_DIGEST_SIZE = 32


def write(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """The platform's JSON."""
    return [_write(prediction) for prediction in predictions]


def read(platform: list[dict[str, Any]]) -> list[Prediction]:
    """What `write` was given.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it did not write this.
    """
    return [_read(item) for item in platform]


def _write(prediction: Prediction) -> dict[str, Any]:
    shape = prediction.shape
    return {
        "shape": shape.name,
        "pcrs": {str(pcr): value.hex() for pcr, value in prediction.pcrs().items()},
        "events": {str(pcr): events.write(prediction.of(pcr)) for pcr in shape.predicted},
        "left_out": {str(pcr): why for pcr, why in shape.left_out.items()},
    }


def _read(item: dict[str, Any]) -> Prediction:
    found = (PcrEvent(*event) for event in events.read(item["events"], _DIGEST_SIZE))
    return Prediction(VTPM_SHAPES[item["shape"]], tuple(found))
