"""Whether the engine can load a model: checked before packing, on the machine that packs.

The engine is vLLM with `--load-format=safetensors` and without remote code (guest/worker/engine).
It reads config.json, the weights at the top of the folder, and a tokenizer. What it does with them:
vLLM 0.19, vllm/model_executor/model_loader/default_loader.py and vllm/tokenizers/registry.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from confide.errors import ConfigError
from confide.host.model.safetensors import read_tensors
from confide.host.model.source import Source, SourceFile

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
DOCUMENTS = (
    CONFIG, INDEX, TOKENIZER_CONFIG, "generation_config.json", "tokenizer.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "tekken.json", "params.json",
)  # fmt: skip
"""Files that the engine reads as a JSON object, if they are there."""

TOKENIZERS = (
    {"tokenizer.json"}, {"tokenizer.model"}, {"tekken.json"}, {"vocab.json", "merges.txt"},
    {"vocab.txt"}, {"spiece.model"},
)  # fmt: skip
"""Each set of files is a tokenizer."""

OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx")
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
MAX_LFS_POINTER = 1024
MAX_DOCUMENT = 1 << 28
SHOWN = 3

_NUMBERED = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.safetensors")

Files = Mapping[str, SourceFile]


def require_loadable(source: Source, tasks: Collection[str]) -> tuple[str, ...]:
    """Check that the engine can load what `scan` found.

    Args:
        source: The model's files.
        tasks: What the model shall serve: "chat", "completion".

    Returns:
        Sentences about what may still stop the engine, for a person to read.

    Raises:
        ConfigError: A file is missing, damaged, or something else than the engine loads. The error
            names the file.
        OSError: A file cannot be read.
    """
    files = {file.path: file for file in source.files}
    _refuse_pointers(files)
    # Mistral's own layout says in params.json what config.json says elsewhere.
    if CONFIG not in files and not ("params.json" in files and _consolidated(files)):
        raise _no_config(source, files)
    documents = {name: _document(files[name]) for name in DOCUMENTS if name in files}
    if CONFIG in documents:
        _require_architectures(documents[CONFIG])
    _require_weights(files, documents.get(INDEX))
    _require_tokenizer(files)
    return (*_remote_code(documents), *_no_chat_template(files, documents, tasks))


def _refuse_pointers(files: Files) -> None:
    small = (file for file in files.values() if file.size <= MAX_LFS_POINTER)
    pointers = [f.path for f in small if f.source.read_bytes().startswith(LFS_POINTER)]
    if pointers:
        raise ConfigError(
            "model-lfs-pointer",
            f"the folder has Git LFS pointers in place of files: {_some(pointers)}",
            expected="the files themselves",
            next="run `git lfs pull` in the folder, or download the model again",
        )


def _no_config(source: Source, files: Files) -> ConfigError:
    """The folder is not a model's; perhaps one inside is, as in the cache of Hugging Face."""
    inside = [path.parent for path in map(PurePosixPath, files) if path.name == CONFIG]
    depth = min((len(path.parts) for path in inside), default=0)
    found = [str(source.folder / path) for path in inside if len(path.parts) == depth]
    if "refs/main" in files:
        main = "snapshots/" + files["refs/main"].source.read_text("ascii", "replace").strip()
        found = [str(source.folder / path) for path in inside if str(path) == main] or found
    is_cache = any(path.startswith("snapshots/") for path in files)
    return ConfigError(
        "model-config",
        "the folder is a cache of Hugging Face, and not the model itself"
        if is_cache
        else "the folder has no config.json",
        expected="config.json, safetensors files and a tokenizer, directly in the folder",
        seen=str(source.folder),
        next=f"pack this folder instead: {' or '.join(found[:SHOWN])}"
        if found
        else "give the folder of a model, as Hugging Face lays it out",
    )


def _document(file: SourceFile) -> dict[str, Any]:
    """A file that the engine reads as a JSON object."""
    if file.size > MAX_DOCUMENT:
        raise _bad_document(file, f"at most {MAX_DOCUMENT} bytes", f"{file.size} bytes")
    try:
        value = json.loads(file.source.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise _bad_document(file, "a JSON object in UTF-8", str(error)[:120]) from error
    if not isinstance(value, dict):
        raise _bad_document(file, "a JSON object", type(value).__name__)
    return value


def _bad_document(file: SourceFile, expected: str, seen: str) -> ConfigError:
    return ConfigError(
        "model-config",
        f"{file.path} is malformed",
        expected=expected,
        seen=ascii(seen),
        next="download this file again",
    )


def _require_architectures(config: Mapping[str, Any]) -> None:
    names = config.get("architectures")
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise ConfigError(
            "model-config",
            "config.json does not say which architecture the model has",
            expected='for example "architectures": ["LlamaForCausalLM"]',
            seen=ascii(json.dumps(names)[:120]),
            next="download config.json again, or give a complete model",
        )


def _require_weights(files: Files, index: Mapping[str, Any] | None) -> None:
    tensors = {
        path: read_tensors(file) for path, file in files.items() if path.endswith(".safetensors")
    }
    # The engine loads no weights from folders inside.
    shards = {path: names for path, names in tensors.items() if "/" not in path}
    if not shards:
        others = [path for path in files if path.endswith(OTHER_WEIGHTS)]
        raise ConfigError(
            "model-weights",
            "the folder has no weights that the engine loads",
            expected="*.safetensors directly in the folder (the engine loads no other format)",
            seen=_some(others or sorted(tensors)) if others or tensors else "",
            next="download the model's safetensors files, or convert its weights to safetensors",
        )
    if index is None:
        _require_all_numbers(shards)
    else:
        _require_index(shards, index)


def _require_all_numbers(shards: Collection[str]) -> None:
    """Without an index, the names say how many shards there are: NAME-00001-of-00003."""
    for match in filter(None, map(_NUMBERED.fullmatch, shards)):
        stem, _, count = match.groups()
        every = (f"{stem}-{n:05}-of-{count}.safetensors" for n in range(1, int(count) + 1))
        _require_shards(shards, every, f"{count} files by their names")


def _require_index(shards: Mapping[str, Collection[str]], index: Mapping[str, Any]) -> None:
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise ConfigError(
            "model-index",
            f"{INDEX} does not say which tensor is in which file",
            expected='"weight_map": {TENSOR: FILE, …}',
            next="download this file again",
        )
    listed = set(weight_map.values())
    _require_shards(shards, sorted(listed), f"each file that {INDEX} lists")
    # A model may come twice: the second time in its maker's own layout, which no index lists.
    strays = sorted(set(shards) - listed - _consolidated(shards))
    if strays:
        raise ConfigError(
            "model-index",
            f"{INDEX} does not list these weights, so the engine ignores them: {_some(strays)}",
            expected="the safetensors files of one version of the model",
            next="remove these files, or download the model again into an empty folder",
        )
    # A tensor that only its shard lists is no error: the engine loads each shard whole.
    absent = [name for name, shard in weight_map.items() if name not in shards[shard]]
    if absent:
        raise ConfigError(
            "model-index",
            f"{weight_map[absent[0]]} lacks tensors that {INDEX} says it has",
            expected=_some(absent),
            next="download the model again: its files are of different versions",
        )


def _consolidated(paths: Iterable[str]) -> set[str]:
    """The weights in Mistral's own layout."""
    return {p for p in paths if p.startswith("consolidated") and p.endswith(".safetensors")}


def _require_shards(shards: Collection[str], names: Iterable[str], expected: str) -> None:
    missing = [name for name in names if name not in shards]
    if missing:
        raise ConfigError(
            "model-index",
            f"weights are missing: {_some(missing)}",
            expected=f"{expected}, directly in the folder",
            next="download the missing files",
        )


def _require_tokenizer(files: Files) -> None:
    versioned = any(path.startswith("tokenizer.model.v") for path in files)
    if not versioned and not any(names <= files.keys() for names in TOKENIZERS):
        raise ConfigError(
            "model-tokenizer",
            "the folder has no tokenizer",
            expected=" or ".join(" with ".join(sorted(names)) for names in TOKENIZERS),
            next="download the model's tokenizer files too",
        )


def _remote_code(documents: Mapping[str, Mapping[str, Any]]) -> list[str]:
    # No error: most such models are built into vLLM too, and then it ignores their code.
    return [
        f"{name} names Python code of the model (auto_map). The engine never runs it: the model "
        "works only if vLLM has this architecture built in."
        for name in (CONFIG, TOKENIZER_CONFIG)
        if "auto_map" in documents.get(name, {})
    ]


def _no_chat_template(
    files: Files, documents: Mapping[str, Mapping[str, Any]], tasks: Collection[str]
) -> list[str]:
    template = {"chat_template.jinja", "chat_template.json", "tekken.json"} & files.keys()
    if "chat" not in tasks or template or "chat_template" in documents.get(TOKENIZER_CONFIG, {}):
        return []
    return [
        "The model has no chat template, so the engine may refuse chat requests. If it is a base "
        "model, pack it with `--task completion`."
    ]


def _some(names: Collection[str]) -> str:
    """The first names, and how many more there are."""
    first = ", ".join(ascii(name[:120]) for name in list(names)[:SHOWN])
    return first if len(names) <= SHOWN else f"{first} and {len(names) - SHOWN} more"
