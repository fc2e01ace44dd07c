"""Decides which GPUs each model gets, before an engine starts. No I/O.

First fit, in the order of the models: a model takes the first GPUs with enough memory left. So the
same models get the same GPUs at every start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confide.errors import ConfigError

BESIDE_PERCENT = 5
"""Hundredths of a GPU's memory that an engine takes beside its share, for CUDA context and graphs.
They count, because vLLM only starts while its whole share is free."""


@dataclass(frozen=True)
class Demand:
    """What a model needs: GPUs, `percent` of the memory of each, and bytes of weights."""

    model: str
    gpus: int
    percent: int
    weights: int

    @property
    def taken(self) -> int:
        """Hundredths of each GPU's memory that its engine takes in total."""
        return self.percent + BESIDE_PERCENT


def place(demands: Sequence[Demand], memory: Sequence[int]) -> list[tuple[int, ...]]:
    """The indexes of the GPUs that each model gets; `memory` has the bytes of each GPU.

    Raises ConfigError "too-few-gpus", "gpus-taken" (by earlier models) or "model-too-large" (its
    weights are larger than its memory). Each names the model.
    """
    free = [100] * len(memory)
    placed = []
    for demand in demands:
        if demand.gpus > len(memory):
            raise ConfigError(
                "too-few-gpus",
                f"the model {demand.model} needs more GPUs than this machine has",
                expected=f"{demand.gpus} GPUs, the model's tensor_parallel_size",
                seen=str(len(memory)),
                next="give the machine more GPUs, or serve the model on another one",
            )
        chosen = [i for i, percent in enumerate(free) if percent >= demand.taken][: demand.gpus]
        if len(chosen) < demand.gpus:
            raise ConfigError(
                "gpus-taken",
                f"the earlier models leave no room on the GPUs for the model {demand.model}",
                expected=f"{demand.gpus} GPUs with {demand.percent} + {BESIDE_PERCENT} % free",
                seen=", ".join(f"{percent} %" for percent in free),
                next="serve fewer models here, or pack them with a smaller gpu_memory_percent",
            )
        # The weights are spread evenly, so the smallest GPU decides.
        given = demand.gpus * (min(memory[index] for index in chosen) * demand.percent // 100)
        _require_room(demand, given)
        for index in chosen:
            free[index] -= demand.taken
        placed.append(tuple(chosen))
    return placed


def require_memory(demands: Sequence[Demand], memory: int) -> None:
    """Raise ConfigError "model-too-large" unless `given` bytes hold all the weights."""
    for demand in demands:
        _require_room(demand, memory)
        memory -= demand.weights


def _require_room(demand: Demand, given: int) -> None:
    if demand.weights > given:
        raise ConfigError(
            "model-too-large",
            f"the model {demand.model} does not fit into its memory",
            expected=f"weights of at most {given} bytes",
            seen=f"{demand.weights} bytes",
            next="give it more GPUs (tensor_parallel_size), more of their memory, or a larger host",
        )
