"""Platform `vtpm` in measurements.json: registers, and the events that give them."""

from __future__ import annotations

from measure.pcr import PcrEvent, Prediction
from measure.report import events
from measure.report.form import PcrEntry, VtpmMachine
from measure.shapes import VTPM_SHAPES


def write(prediction: Prediction) -> VtpmMachine:
    """A machine's entry."""
    shape = prediction.shape
    return VtpmMachine(
        shape=shape.name,
        pcrs=prediction.pcrs(),
        events={pcr: events.write(PcrEntry, prediction.of(pcr)) for pcr in shape.predicted},
        left_out=shape.left_out,
    )


def read(machine: VtpmMachine) -> Prediction:
    """What `write` was given, from the events."""
    found = (PcrEvent(*event) for event in events.read(machine.events))
    return Prediction(VTPM_SHAPES[machine.shape], tuple(found))
