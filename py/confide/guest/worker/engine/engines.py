"""The engines as the encryption proxy sees them: which one has a model, and whether it is ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from confide.errors import UnavailableError
from confide.guest.worker.engine.models_file import ENGINE_HOST, FIRST_PORT
from confide.guest.worker.engine.states import STATES_FILE, EngineState, read_states
from confide.net.http_client import Upstream


class Engines:
    """The engine of each model, in the order of the models file. Thread-safe."""

    def __init__(self, models: Sequence[str], states_file: Path = STATES_FILE) -> None:
        self._engines = {
            model: Upstream(
                f"http://{ENGINE_HOST}:{port}", may_send=partial(self._require_ready, model)
            )
            for port, model in enumerate(models, FIRST_PORT)
        }
        self._states_file = states_file

    def states(self) -> Mapping[str, EngineState]:
        """The state of each model's engine."""
        return read_states(self._engines, self._states_file)

    def engine(self, model: str) -> Upstream:
        """The engine of a model. Raises UnavailableError if it is not READY."""
        self._require_ready(model)
        return self._engines[model]

    def _require_ready(self, model: str) -> None:
        """An engine that is not READY may print what it does (supervisor.py).

        So this is checked again after each connect. STARTING is written before an engine listens:
        an engine that is connected and then READY is not a new one that still starts.
        """
        state = self.states()[model]
        if state != EngineState.READY:
            raise UnavailableError(
                "engine-not-ready",
                f"the engine of the model {model} is not ready",
                seen=state,
                next="try again later",
            )
