"""The engines' supervisor, `python -m confide.guest.worker.engine.program`: a vLLM for each model.

Reads which models the disk mounter opened (MODELS_FILE), places them, and keeps their engines
running (supervisor.py). On a machine with GPUs it waits, before each start of an engine, until the
GPUs are ready: they are while the machine is attested with them. If not all models fit, none is
served. The program then keeps running, so that the state says why.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Protocol

from confide.encoding import console
from confide.errors import ConfideError, ConfigError
from confide.guest.worker.engine import cpu, gpu
from confide.guest.worker.engine.launch import LAUNCHES
from confide.guest.worker.engine.models_file import (
    MODELS_FILE,
    ServedModel,
    parse_models,
)
from confide.guest.worker.engine.place import place_of
from confide.guest.worker.engine.placement import Demand, place, require_memory
from confide.guest.worker.engine.states import EngineState, EngineStates
from confide.guest.worker.engine.supervisor import EngineProgram, Supervisor
from confide.guest.worker.role import read_role
from confide.protocol.roles import Role

GPU_POLL_SECONDS = 2.0

WaitForGpus = Callable[[], list[int]]
"""Waits until the GPUs are ready. Returns the bytes of each, or nothing when it has to stop."""


class Gpus(Protocol):
    """What is needed of attest.nvidia.NvidiaGpus. Both methods raise ConfideError without GPUs."""

    def ready(self) -> bool:
        """Whether the GPUs take work."""

    def memory(self) -> tuple[int, ...]:
        """Bytes of memory of each GPU."""


class EngineKind(Protocol):
    """One of the modules cpu and gpu."""

    def command(self, model: ServedModel, *, socket: Path, gpus: Sequence[int]) -> list[str]:
        """The arguments of a model's engine, the program first."""

    def environment(self, gpus: Sequence[int]) -> Mapping[str, str]:
        """Its whole environment."""


def demand(model: ServedModel) -> Demand:
    """What a model needs, from its files and its options."""
    return Demand(model.name, model.engine.gpus, model.engine.memory_percent, weights(model.path))


def weights(folder: Path) -> int:
    """Bytes of a model's weights."""
    sizes = {file.name: file.stat().st_size for file in folder.glob("*.safetensors")}
    # Some models also come in their makers' own layout, which vLLM does not load.
    usual = [size for name, size in sizes.items() if not name.startswith("consolidated")]
    return sum(usual or sizes.values())


def wait_for_gpus(gpus: Gpus, stopping: threading.Event, say: Callable[[str], None]) -> list[int]:
    """Wait until the GPUs are ready. Returns the bytes of each. Prints each reason to wait once.

    An empty list if `stopping` is set first.
    """
    said = ""
    while not stopping.is_set():
        try:
            if gpus.ready():
                return list(gpus.memory())
            reason = "they are not attested"
        except ConfideError as error:
            reason = str(error)
        if reason != said:
            say(f"waiting for the GPUs: {reason}")
            said = reason
        stopping.wait(GPU_POLL_SECONDS)
    return []


def place_models(
    models: Sequence[ServedModel], states: EngineStates, wait: WaitForGpus | None
) -> list[EngineProgram]:
    """The engines to run, none when it has to stop. Raises ConfigError if not all models fit."""
    demands = [demand(model) for model in models]
    if wait is None:
        require_memory(demands, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        return programs(cpu, models, [()] * len(models))
    states.set_all(EngineState.GPUS_NOT_READY)
    memory = wait()
    return programs(gpu, models, place(demands, memory)) if memory else []


def gpus_of(role: Role, stopping: threading.Event) -> WaitForGpus | None:
    """The function that waits for this machine's GPUs, or None without GPUs."""
    if not role.has_gpus:
        return None

    from confide.guest.attest.nvidia import (
        NvidiaGpus,  # slow, and useless without GPUs
    )

    return partial(wait_for_gpus, NvidiaGpus(), stopping, say)


def programs(
    engine: EngineKind, models: Sequence[ServedModel], placed: Sequence[tuple[int, ...]]
) -> list[EngineProgram]:
    """How to start the engine of each model on its GPUs."""
    return [
        EngineProgram(
            model.name,
            engine.command(model, socket=place.socket, gpus=gpus),
            engine.environment(gpus),
            place,
            gpus,
        )
        for number, (model, gpus) in enumerate(zip(models, placed, strict=True), 1)
        for place in (place_of(number),)
    ]


def run(role: Role, stopping: threading.Event) -> None:
    """Serve until `stopping` is set. Raises FormatError for a bad models file, OSError."""
    models = parse_models(MODELS_FILE.read_bytes())
    states = EngineStates([model.name for model in models], EngineState.STARTING)
    wait = gpus_of(role, stopping)
    try:
        engines = place_models(models, states, wait)
    except ConfigError as error:
        say(f"{error.code}: {error}")
        states.set_all(EngineState(error.code))
        stopping.wait()
        return
    if engines:
        Supervisor(engines, states, stopping, say, wait, LAUNCHES.parent).run()


def say(text: str) -> None:
    """One line on the console."""
    console.say(text, program="confide-engine")


def main() -> int:
    """Run on this machine: 0 after SIGTERM, 1 after an error, which is printed."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        # Not in this thread: the interrupted code may hold the event's lock.
        threading.Thread(target=stopping.set).start()

    signal.signal(signal.SIGTERM, stop)
    try:
        run(read_role(), stopping)
    except (ConfideError, OSError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
