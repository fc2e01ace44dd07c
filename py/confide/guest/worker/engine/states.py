"""The file with the state of each model's engine: the supervisor writes it, the proxy reads it.

The supervisor hears engines, which know prompts. So a state is a word of a closed set, never free
text.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path

from confide.encoding.canonical import json_decode, json_encode
from confide.encoding.messages import read_value
from confide.errors import ConfideError
from measure.kinds import MapOf, Text, Word

STATES_FILE = Path("/run/confide-engines/states.json")


class EngineState(StrEnum):
    """TOO_FEW_GPUS and those after it are final: start the machine with other options.

    NOT_OPEN comes before there is a file: the disk mounter has not opened the models yet.
    """

    NOT_OPEN = "disk-not-open"
    NOT_THERE = "engine-not-there"
    GPUS_NOT_READY = "gpus-not-ready"
    STARTING = "engine-starting"
    READY = "ready"
    DRAINING = "engine-draining"
    ENDED = "engine-ended"
    TOO_FEW_GPUS = "too-few-gpus"
    GPUS_TAKEN = "gpus-taken"
    TOO_LARGE = "model-too-large"


MAX_STATES = 1 << 16
"""Most bytes of the file."""

_STATES = MapOf(Text(), Word(EngineState))
_WHAT = "the file of engine states"


class EngineStates:
    """The writer's side. Thread-safe."""

    def __init__(self, models: Iterable[str], state: EngineState, file: Path = STATES_FILE) -> None:
        self._states = dict.fromkeys(models, state)
        self._file = file
        self._lock = threading.Lock()
        self._write()

    def set(self, model: str, state: EngineState) -> None:
        """Change the state of one model."""
        with self._lock:
            self._states[model] = state
            self._write()

    def set_all(self, state: EngineState) -> None:
        """Change the state of every model."""
        with self._lock:
            self._states = dict.fromkeys(self._states, state)
            self._write()

    def _write(self) -> None:
        # Replaced as a whole: a reader never sees half of the states.
        new = self._file.with_suffix(".new")
        new.write_bytes(json_encode(_STATES.encode(self._states)))
        new.chmod(0o644)
        new.replace(self._file)


def read_states(models: Iterable[str], file: Path = STATES_FILE) -> Mapping[str, EngineState]:
    """The state of each of these models, NOT_THERE without a (valid) file of the supervisor.

    The supervisor may be hostile: it hears engines. So a link is not followed, a pipe does not make
    this wait, and a large file is not read.
    """
    names = tuple(models)
    try:
        value = json_decode(_read_regular(file), what=_WHAT)
        states: dict[str, EngineState] = read_value(_STATES, value, _WHAT)
        return {name: states[name] for name in names}
    except (OSError, ConfideError, KeyError):
        return dict.fromkeys(names, EngineState.NOT_THERE)


def _read_regular(file: Path) -> bytes:
    """The bytes of a regular file, nothing of another or larger one. Raises OSError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        data = os.read(descriptor, MAX_STATES + 1) if is_file else b""
    finally:
        os.close(descriptor)
    return data if len(data) <= MAX_STATES else b""
