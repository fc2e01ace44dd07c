"""The file in which the disk mounter tells the engine which models are open, and where. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from confide.encoding.messages import JsonMessage
from confide.protocol.engine_options import ENGINE_OPTIONS, NO_OPTIONS, EngineOptions
from measure.declare import Nested
from measure.kinds import Converted, Hex, ListOf, Name, Text

MODELS_FILE = Path("/run/confide/models.json")
"""Written once every model of this machine is open."""


@dataclass(frozen=True)
class ServedModel:
    """An open model: its name in the API, its Hugging Face directory, its root hash (32 bytes), its
    tasks, and the options of its engine.
    """

    name: Annotated[str, Name()]
    path: Annotated[Path, Converted(Text(), read=Path, write=str)]
    root_hash: Annotated[bytes, Hex(32)]
    tasks: Annotated[tuple[str, ...], ListOf(Name(), unique=True)]
    engine: Annotated[EngineOptions, ENGINE_OPTIONS] = NO_OPTIONS


@dataclass(frozen=True)
class _ModelsFile(JsonMessage, what="the models file"):
    """The whole file."""

    models: Annotated[tuple[ServedModel, ...], ListOf(Nested(ServedModel))]


def encode_models(models: Sequence[ServedModel]) -> bytes:
    """The bytes of the file: canonical JSON."""
    return _ModelsFile(tuple(models)).encode()


def parse_models(data: bytes) -> tuple[ServedModel, ...]:
    """The models of such a file. Raises FormatError."""
    return _ModelsFile.parse(data).models
