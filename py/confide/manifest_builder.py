"""`confide manifest build`: measurements of images and descriptions of models in, a manifest out.

Deterministic: the order of the inputs does not matter, and nothing but them and the published
development CA goes in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from confide.errors import ConfigError
from confide.formats.fields import Fields
from confide.formats.manifest import ROLES, Manifest, Model, Role, VtpmReference
from confide.operator import read_file
from confide.runner.cloud import development_ca_spki_sha256
from measure import report
from measure.errors import MeasureError

MAX_MODEL_FILE = 65536
DIFFERENCES_SHOWN = 20


def build_manifest(measurements: Sequence[Path], models: Sequence[Path]) -> bytes:
    """The canonical bytes of a development manifest.

    `measurements` are folders of images (with measurements.json, and their role in a file `role` or
    as the measurements' image name) or measurements files; `models` are model.json files or folders
    that have one. Raises ConfigError or FormatError, naming the file.
    """
    references: dict[str, dict[str, VtpmReference]] = {}
    for path in measurements:
        role, found = _read_measurements(path)
        shapes = references.setdefault(role, {})
        for reference in found:
            if reference.shape in shapes:
                raise ConfigError(
                    "double-measurement",
                    f"role {role} is measured twice for shape {reference.shape}",
                    seen=str(path),
                )
            shapes[reference.shape] = reference
    manifest = Manifest(
        mode="development",
        development_ca=development_ca_spki_sha256(),
        roles=tuple(
            Role(role, tuple(shapes[name] for name in sorted(shapes)))
            for role, shapes in sorted(references.items())
        ),
        models=tuple(sorted((_read_model(path) for path in models), key=lambda m: m.name)),
    )
    data = manifest.encode()
    # What is written must be what every reader accepts.
    Manifest.parse(data)
    return data


def _read_measurements(path: Path) -> tuple[str, list[VtpmReference]]:
    file = path / "measurements.json" if path.is_dir() else path
    data = read_file(file, "measurements file", report.MAX_REPORT)
    try:
        parsed = report.parse(data, str(file))
        predictions = report.predictions(parsed, str(file))
    except MeasureError as error:
        raise ConfigError(
            "bad-measurements", "these are no measurements of an image", seen=str(error)
        ) from error
    role_file = file.parent / "role"
    role = role_file.read_text().strip() if role_file.is_file() else str(parsed["image"])
    if role not in ROLES:
        raise ConfigError(
            "unknown-role",
            f"{file} is of an image without a role",
            expected=" or ".join(ROLES),
            seen=ascii(role[:80]),
        )
    return role, [VtpmReference(p.shape.name, dict(p.pcrs())) for p in predictions]


def _read_model(path: Path) -> Model:
    file = path / "model.json" if path.is_dir() else path
    try:
        value = json.loads(read_file(file, "model file", MAX_MODEL_FILE))
    except (ValueError, RecursionError) as error:
        raise ConfigError("bad-model", "the model file is not JSON", seen=str(file)) from error
    fields = Fields(value, str(file))
    model = Model(
        name=fields.name("name"),
        root_hash=fields.hex("root_hash", 32),
        hash_offset=fields.integer("hash_offset"),
        tasks=fields.names("tasks"),
        roles=fields.names("roles"),
    )
    fields.done()
    return model


def differences(expected: object, seen: object, where: str = "") -> list[str]:
    """Where two decoded JSON documents differ, one line each, at most `DIFFERENCES_SHOWN`."""
    if isinstance(expected, Mapping) and isinstance(seen, Mapping):
        pairs = [
            (f"{where}.{key}".lstrip("."), expected.get(key), seen.get(key))
            for key in sorted({*expected, *seen})
        ]
    elif isinstance(expected, list) and isinstance(seen, list) and len(expected) == len(seen):
        pairs = [
            (f"{where}[{n}]", a, b) for n, (a, b) in enumerate(zip(expected, seen, strict=True))
        ]
    else:
        same = expected == seen and type(expected) is type(seen)
        return [] if same else [f"{where}: expected {expected!a}, seen {seen!a}"]
    lines = [line for name, a, b in pairs for line in differences(a, b, name)]
    return lines[:DIFFERENCES_SHOWN]
