"""The engines as the encryption proxy sees them: which one has a model, and whether it is ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from confide.errors import UnavailableError
from confide.guest.worker.engine.place import Place, place_of
from confide.guest.worker.engine.states import STATES_FILE, EngineState, read_states
from confide.net.http_client import Upstream
from confide.net.unix_socket import UnixConnection


class Engines:
    """The engine of each model, in the order of the config disk. Thread-safe."""

    def __init__(
        self,
        models: Sequence[str],
        states_file: Path = STATES_FILE,
        places: Callable[[int], Place] = place_of,
    ) -> None:
        self._engines = {
            model: self._upstream(model, places(number)) for number, model in enumerate(models, 1)
        }
        self._states_file = states_file

    def states(self) -> Mapping[str, EngineState]:
        """The state of each model's engine."""
        return read_states(self._engines, self._states_file)

    def engine(self, model: str) -> Upstream:
        """The engine of a model. Raises UnavailableError if it is not READY."""
        self._require_ready(model)
        return self._engines[model]

    def _upstream(self, model: str, place: Place) -> Upstream:
        return Upstream(
            f"http://engine-{place.number}",
            connection=partial(UnixConnection, place.socket, place.user),
            may_send=partial(self._require_ready, model),
        )

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
