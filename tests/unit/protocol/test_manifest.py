"""The manifest: one byte string per value, and no rule of the format can be left out."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from confide.encoding.canonical import json_encode
from confide.errors import FormatError, PolicyError
from confide.host import manifest_schema
from confide.host.manifest_schema import schema_text
from confide.protocol.engine_options import EngineOptions
from confide.protocol.manifest import Manifest
from confide.protocol.policy.vtpm import REQUIRED_PCRS, DevelopmentCa
from confide.protocol.roles import Role
from tests.support.schemas import MANIFEST_SCHEMA as SCHEMA

ROOT = Path(__file__).parents[3]
SCHEMA_FILE = ROOT / "py/confide/protocol/manifest.schema.json"

Value = dict[str, Any]


def test_round_trip(manifest_value: Value) -> None:
    data = json_encode(manifest_value)
    manifest = Manifest.parse(data)
    assert manifest.encode() == data
    assert manifest.sha256 == hashlib.sha256(data).digest()
    assert manifest.platforms.vtpm == DevelopmentCa(b"\xab" * 32)
    assert manifest.role("coordinator").vtpm[0].pcrs[11] == bytes(31) + b"\x0b"
    assert manifest.model("tiny").root_hash == b"\xcd" * 32
    assert manifest.workers == (Role.WORKER_CPU,)
    jsonschema.validate(manifest_value, SCHEMA)


def test_engine_options_are_kept_as_they_are(manifest_value: Value) -> None:
    """An option at its default is not the same manifest as one that is left out."""
    engine = {"tensor_parallel_size": 1, "dtype": "bfloat16"}
    manifest_value["models"][0]["engine"] = engine
    data = json_encode(manifest_value)
    manifest = Manifest.parse(data)
    assert manifest.encode() == data
    assert manifest.model("tiny").engine == EngineOptions(tensor_parallel_size=1, dtype="bfloat16")
    jsonschema.validate(manifest_value, SCHEMA)


def test_unknown_names(manifest_value: Value) -> None:
    manifest = Manifest.parse(json_encode(manifest_value))
    with pytest.raises(PolicyError) as role:
        manifest.role("worker-gpu")
    assert role.value.code == "unknown-role"
    with pytest.raises(PolicyError) as model:
        manifest.model("huge")
    assert model.value.code == "unknown-model"


def _set(*path: str | int, to: Any) -> Callable[[Value], None]:
    def change(value: Value) -> None:
        target: Any = value
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = to

    return change


def _drop(*path: str | int) -> Callable[[Value], None]:
    def change(value: Value) -> None:
        target: Any = value
        for step in path[:-1]:
            target = target[step]
        del target[path[-1]]

    return change


PCRS = ("roles", "coordinator", "vtpm", 0, "pcrs")
MODEL = ("models", 0)
BROKEN: dict[str, dict[str, Callable[[Value], None]]] = {
    "bad-field": {
        "format": _set("format", to="confide-manifest/2"),
        "mode": _set("mode", to="test"),
        "roles is a list": _set("roles", to=[]),
        "unknown register": _set(*PCRS, "24", to="00" * 32),
        "register with a leading zero": _set(*PCRS, "01", to="00" * 32),
        "register is null": _set(*PCRS, "11", to=None),
        "hash offset zero": _set(*MODEL, "hash_offset", to=0),
        "hash offset negative": _set(*MODEL, "hash_offset", to=-4096),
        "hash offset is true": _set(*MODEL, "hash_offset", to=True),
        "task twice": _set(*MODEL, "tasks", to=["chat", "chat"]),
        "engine is a list": _set(*MODEL, "engine", to=[]),
        "engine option out of bounds": _set(*MODEL, "engine", "tensor_parallel_size", to=17),
        "engine option as text": _set(*MODEL, "engine", "max_model_len", to="4096"),
        "engine option is true": _set(*MODEL, "engine", "max_num_seqs", to=True),
        "engine option is null": _set(*MODEL, "engine", "dtype", to=None),
        "engine option with an unknown choice": _set(*MODEL, "engine", "dtype", to="int8"),
    },
    "bad-hex": {
        "CA not hex": _set("platforms", "vtpm", "development_ca", to="zz" * 32),
        "CA upper case": _set("platforms", "vtpm", "development_ca", to="AB" * 32),
        "CA short": _set("platforms", "vtpm", "development_ca", to="ab" * 31),
        "short register": _set(*PCRS, "11", to="00" * 31),
        "empty register": _set(*PCRS, "11", to=""),
        "root hash": _set(*MODEL, "root_hash", to="cd" * 20),
    },
    "bad-name": {
        "shape is not a name": _set(*PCRS[:-1], "shape", to="Q 35"),
        "model name": _set(*MODEL, "name", to="../tiny"),
    },
    "engine-option": {
        "engine option that is not allowed": _set(*MODEL, "engine", "trust_remote_code", to=True),
        "engine option with vLLM's hyphens": _set(*MODEL, "engine", "max-model-len", to=4096),
    },
    "manifest-keys": {
        "update keys": _set("update_keys", to=["00"]),
        "recovery keys": _set("recovery_keys", to=["00"]),
    },
    "manifest-mode": {
        "production names the development CA": _set("mode", to="production"),
        "development without the CA": _set("platforms", to={}),
    },
    "manifest-models": {
        "hash offset between blocks": _set(*MODEL, "hash_offset", to=4097),
        "empty tasks": _set(*MODEL, "tasks", to=[]),
        "empty roles": _set(*MODEL, "roles", to=[]),
        "unknown task": _set(*MODEL, "tasks", to=["image"]),
        "served by the coordinator": _set(*MODEL, "roles", to=["coordinator"]),
    },
    "manifest-pcrs": {
        **{f"no register {index}": _drop(*PCRS, str(index)) for index in REQUIRED_PCRS},
        "the register of the manifest itself": _set(*PCRS, "15", to="00" * 32),
    },
    "manifest-platform": {
        "production without an authority": lambda value: value.update(
            mode="production", platforms={}
        ),
    },
    "manifest-role": {
        "no coordinator": _drop("roles", "coordinator"),
        "role without measurements": _set("roles", "coordinator", "vtpm", to=[]),
        "role with an unknown platform": _set("roles", "coordinator", "tdx", to=[]),
        "role without a platform": _set("roles", "coordinator", to={}),
    },
    "missing-field": {
        "unknown authority": _set("platforms", "tdx", to={}),
        **{
            f"no {field}": _drop(field)
            for field in (
                "format",
                "mode",
                "platforms",
                "roles",
                "models",
                "update_keys",
                "recovery_keys",
            )
        },
        **{
            f"no model {field}": _drop(*MODEL, field)
            for field in ("name", "root_hash", "hash_offset", "tasks", "roles", "engine")
        },
    },
    "unknown-field": {
        "unknown vtpm authority": _set("platforms", "vtpm", "cloud_ca", to="ab" * 32),
        "unknown field in a measurement": _set(*PCRS[:-1], "more", to=1),
        "unknown field in a model": _set(*MODEL, "more", to=1),
        "unknown field": _set("comment", to="hello"),
    },
    "unknown-role": {
        "unknown role": _set("roles", "gateway", to={"vtpm": []}),
    },
}
"""Changes that make the manifest invalid, by the error's code."""


@pytest.mark.parametrize(
    ("code", "name"), [(code, name) for code, changes in BROKEN.items() for name in changes]
)
def test_refuses(code: str, name: str, manifest_value: Value) -> None:
    value = copy.deepcopy(manifest_value)
    BROKEN[code][name](value)
    assert value != manifest_value
    with pytest.raises(FormatError) as caught:
        Manifest.parse(json_encode(value))
    assert caught.value.code == code
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, SCHEMA)


def test_refuses_what_a_schema_cannot_say(manifest_value: Value) -> None:
    twice = copy.deepcopy(manifest_value)
    twice["models"].append(twice["models"][0])
    no_worker = copy.deepcopy(manifest_value)
    del no_worker["roles"]["worker-cpu"]
    shapes = copy.deepcopy(manifest_value)
    shapes["roles"]["coordinator"]["vtpm"] *= 2
    for value in (twice, no_worker, shapes):
        with pytest.raises(FormatError):
            Manifest.parse(json_encode(value))


def test_refuses_other_bytes_of_the_same_value(manifest_value: Value) -> None:
    data = json_encode(manifest_value)
    for other in (data[:-1], data + b"\n", data.replace(b"  ", b" "), json.dumps(
            manifest_value).encode(), b"\xef\xbb\xbf" + data):  # fmt: skip
        with pytest.raises(FormatError):
            Manifest.parse(other)


def test_refuses_every_flipped_byte_or_reads_another_manifest(manifest_value: Value) -> None:
    data = json_encode(manifest_value)
    original = Manifest.parse(data)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            manifest = Manifest.parse(changed)
        except FormatError:
            continue
        assert manifest != original
        assert manifest.sha256 != original.sha256


def test_the_committed_schema_is_current() -> None:
    """Else renew it by the command that confide.host.manifest_schema names."""
    assert SCHEMA_FILE.read_text() == schema_text(), manifest_schema.__doc__


def test_the_released_manifest_has_one_encoding() -> None:
    data = (ROOT / "release/development.json").read_bytes()
    assert Manifest.parse(data).encode() == data
    jsonschema.validate(json.loads(data), SCHEMA)
