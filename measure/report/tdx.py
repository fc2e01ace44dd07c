"""Platform `tdx` in measurements.json: MRTD, registers, and the events that give them."""

from __future__ import annotations

from measure.report import events
from measure.report.form import RtmrEntry, TdxMachine
from measure.tdx.rtmr import COVERS, Prediction, RtmrEvent
from measure.tdx.shapefile import fields_of


def write(prediction: Prediction) -> TdxMachine:
    """A machine's entry."""
    return TdxMachine(
        shape_name=prediction.shape.name,
        **fields_of(prediction.shape),
        mrtd=prediction.mrtd,
        rtmrs=prediction.rtmrs(),
        events={rtmr: events.write(RtmrEntry, prediction.of(rtmr)) for rtmr in COVERS},
    )


def read(machine: TdxMachine) -> Prediction:
    """What `write` was given, from the events.

    Raises:
        InputError, UnsupportedError: a shape that no machine has.
    """
    found = (RtmrEvent(*event) for event in events.read(machine.events))
    return Prediction(machine.shape(machine.shape_name), dict(machine.mrtd), tuple(found))
