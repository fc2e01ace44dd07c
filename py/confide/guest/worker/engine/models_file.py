"""The file in which the disk mounter tells the engine which models are open, and where. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from confide.encoding.canonical import Json, json_decode, json_encode
from confide.encoding.fields import Fields
from confide.protocol.engine_options import NO_OPTIONS, EngineOptions

MODELS_FILE = Path("/run/confide/models.json")
MANIFEST_COPY = Path("/run/confide/manifest.json")
"""The manifest that the disks were opened with. The encryption proxy must compare it with the one
that the machine was attested against."""

ENGINE_HOST = "127.0.0.1"
FIRST_PORT = 8100
"""The port of the first model's engine. The second model's engine has the next port, and so on."""


@dataclass(frozen=True)
class ServedModel:
    """An open model: its name in the API, its Hugging Face directory, its root hash (32 bytes), its
    tasks, and the options of its engine.
    """

    name: str
    path: Path
    root_hash: bytes
    tasks: tuple[str, ...]
    engine: EngineOptions = NO_OPTIONS


def encode_models(manifest_sha256: bytes, models: Sequence[ServedModel]) -> bytes:
    """The bytes of the file: canonical JSON."""
    entries: list[Json] = [
        {
            "name": model.name,
            "path": str(model.path),
            "root_hash": model.root_hash.hex(),
            "tasks": list(model.tasks),
            "engine": model.engine.to_json(),
        }
        for model in models
    ]
    return json_encode({"manifest_sha256": manifest_sha256.hex(), "models": entries})


def parse_models(data: bytes) -> tuple[bytes, tuple[ServedModel, ...]]:
    """SHA-256 of the manifest that named the models (32 bytes), and the models.

    Raises FormatError.
    """
    fields = Fields(json_decode(data, what="models file"), "the models file")
    manifest_sha256 = fields.hex("manifest_sha256", 32)
    models = tuple(_parse_model(item) for item in fields.list("models"))
    fields.done()
    return manifest_sha256, models


def _parse_model(item: object) -> ServedModel:
    fields = Fields(item, "a model of the models file")
    model = ServedModel(
        name=fields.name("name"),
        path=Path(fields.text("path")),
        root_hash=fields.hex("root_hash", 32),
        tasks=fields.names("tasks"),
        engine=EngineOptions.read(fields.map("engine")),
    )
    fields.done()
    return model
