"""The smallest folder that the engine could load as a model, and its files one by one."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

INDEX = "model.safetensors.index.json"
LFS_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'7' * 64}\nsize 4096\n"


def safetensors(tensors: Mapping[str, int]) -> bytes:
    """A safetensors file of one-dimensional F32 tensors: the number of elements of each by name."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, count in tensors.items():
        offsets = [end, end := end + 4 * count]
        header[name] = {"dtype": "F32", "shape": [count], "data_offsets": offsets}
    return with_header(json.dumps(header).encode(), bytes(end))


def with_header(header: bytes, data: bytes) -> bytes:
    """A safetensors file with any header."""
    return struct.pack("<Q", len(header)) + header + data


def write_model(folder: Path) -> Path:
    """Write config.json, one file of weights, and a tokenizer with a chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {"architectures": ["LlamaForCausalLM"]})
    write_json(folder / "tokenizer.json", {"version": "1.0"})
    write_json(folder / "tokenizer_config.json", {"chat_template": "{{ messages }}"})
    (folder / "model.safetensors").write_bytes(safetensors({"a": 3, "b": 0, "c": 5}))
    return folder


def write_shards(folder: Path) -> Path:
    """The same with weights in two files and an index."""
    write_model(folder)
    (folder / "model.safetensors").unlink()
    shards = {shard(1): {"a": 3, "b": 0}, shard(2): {"c": 5}}
    for name, tensors in shards.items():
        (folder / name).write_bytes(safetensors(tensors))
    weight_map = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    write_json(folder / INDEX, {"metadata": {"total_size": 32}, "weight_map": weight_map})
    return folder


def shard(number: int) -> str:
    """The name of one of two shards."""
    return f"model-{number:05}-of-00002.safetensors"


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON."""
    path.write_text(json.dumps(value))
