"""A model's entry: one of a manifest's, or alone in the model.json beside its disk.

The flake's builder of model disks imports this module and has no cbor2, so nothing here may need
`confide.encoding.canonical`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from confide.errors import FormatError
from confide.protocol.engine_options import ENGINE_OPTIONS, NO_OPTIONS, EngineOptions
from confide.protocol.hash_tree import BLOCK
from confide.protocol.roles import WORKERS, Task
from measure.kinds import Hex, Integer, ListOf, Name


@dataclass(frozen=True)
class Model:
    """A model disk, and which roles serve it: an entry of a manifest, or alone in a model.json.

    `root_hash` is the verity root hash (32 bytes), `hash_offset` the offset of the hash tree in
    bytes.
    """

    name: Annotated[str, Name()]
    root_hash: Annotated[bytes, Hex(32)]
    hash_offset: Annotated[int, Integer(minimum=BLOCK), {"multipleOf": BLOCK}]
    tasks: Annotated[
        tuple[str, ...],
        ListOf(Name(), unique=True),
        {"minItems": 1, "items": {"enum": list(map(str, Task))}},
    ]
    roles: Annotated[
        tuple[str, ...],
        ListOf(Name(), unique=True),
        {"minItems": 1, "items": {"enum": list(map(str, WORKERS))}},
    ]
    engine: Annotated[EngineOptions, ENGINE_OPTIONS] = NO_OPTIONS

    def __post_init__(self) -> None:
        if self.hash_offset % BLOCK:
            raise FormatError(
                "manifest-models",
                f"model {self.name} has a hash tree between blocks",
                expected=f"a multiple of {BLOCK}",
                seen=str(self.hash_offset),
            )
        if not self.tasks or not set(self.tasks) <= set(Task):
            raise FormatError(
                "manifest-models",
                f"model {self.name} has an unknown task",
                expected=" or ".join(Task),
                seen=" ".join(self.tasks) or "no task",
            )
