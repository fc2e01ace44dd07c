"""A folder that the engine cannot load is refused before it is packed, and the file is named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from confide.errors import ConfigError
from confide.host.model.loadable import require_loadable
from confide.host.model.source import scan
from tests.support.model_folder import (
    INDEX,
    LFS_POINTER,
    safetensors,
    shard,
    write_json,
    write_model,
    write_shards,
)

ROOT = Path(__file__).parents[4]
TASKS = ("chat", "completion")


def notes(folder: Path, *tasks: str) -> tuple[str, ...]:
    return require_loadable(scan(folder), tasks or TASKS)


def refused(folder: Path, code: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        notes(folder)
    assert caught.value.code == code
    assert caught.value.expected
    assert caught.value.next
    return caught.value


@pytest.mark.parametrize("write", [write_model, write_shards])
def test_a_model_of_one_file_or_of_shards(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    assert notes(write(tmp_path)) == ()


def test_the_flakes_tiny_model(tmp_path: Path) -> None:
    script = ROOT / "nix" / "model-tiny.py"
    subprocess.run([sys.executable, script, tmp_path], check=True)
    assert notes(tmp_path) == ()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "sub/x"])
def test_lfs_pointers(tmp_path: Path, name: str) -> None:
    """Any file can be one."""
    write_model(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(LFS_POINTER)
    error = refused(tmp_path, "model-lfs-pointer")
    assert name in error.message
    assert "git lfs pull" in error.next


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.gguf"])
def test_weights_in_other_formats_only(tmp_path: Path, name: str) -> None:
    (write_model(tmp_path) / "model.safetensors").rename(tmp_path / name)
    error = refused(tmp_path, "model-weights")
    assert name in error.seen
    assert "safetensors" in error.expected


def test_other_formats_beside_safetensors(tmp_path: Path) -> None:
    """The engine takes the safetensors."""
    (write_model(tmp_path) / "pytorch_model.bin").write_bytes(b"\x80\x02")
    assert notes(tmp_path) == ()


def test_weights_in_a_folder_inside(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "model.safetensors").rename(tmp_path / "sub" / "model.safetensors")
    assert "sub/model.safetensors" in refused(tmp_path, "model-weights").seen


def test_truncated_weights(tmp_path: Path) -> None:
    file = write_shards(tmp_path) / shard(2)
    file.write_bytes(file.read_bytes()[:-1])
    assert shard(2) in refused(tmp_path, "model-weights").message


@pytest.mark.parametrize("index", [True, False])
def test_a_missing_shard(tmp_path: Path, index: bool) -> None:
    (write_shards(tmp_path) / shard(1)).unlink()
    if not index:
        (tmp_path / INDEX).unlink()
    assert shard(1) in refused(tmp_path, "model-index").message


def test_an_index_of_files_in_a_folder_inside(tmp_path: Path) -> None:
    write_json(write_model(tmp_path) / INDEX, {"weight_map": {"a": "sub/model.safetensors"}})
    assert "sub/model.safetensors" in refused(tmp_path, "model-index").message


def test_a_shard_that_the_index_does_not_list(tmp_path: Path) -> None:
    (write_shards(tmp_path) / "model-old.safetensors").write_bytes(safetensors({"a": 3}))
    assert "model-old.safetensors" in refused(tmp_path, "model-index").message
    # Mistral's own layout beside the usual one is no error: the engine leaves it alone.
    (tmp_path / "model-old.safetensors").rename(tmp_path / "consolidated.safetensors")
    assert notes(tmp_path) == ()


def test_a_tensor_that_its_shard_lacks(tmp_path: Path) -> None:
    (write_shards(tmp_path) / shard(1)).write_bytes(safetensors({"a": 3, "other": 1}))
    error = refused(tmp_path, "model-index")
    assert shard(1) in error.message
    assert error.expected == "'b'"


@pytest.mark.parametrize("value", [{}, {"weight_map": []}, {"weight_map": {"a": 1}}])
def test_an_index_without_a_map(tmp_path: Path, value: object) -> None:
    write_json(write_shards(tmp_path) / INDEX, value)
    refused(tmp_path, "model-index")


@pytest.mark.parametrize("names", [None, [], "LlamaForCausalLM", [7]])
def test_no_architecture(tmp_path: Path, names: object) -> None:
    write_json(write_model(tmp_path) / "config.json", {"architectures": names})
    refused(tmp_path, "model-config")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json", INDEX])
@pytest.mark.parametrize("content", ["{", "[]", "", "[" * 100_000, "\ufeff{}"])
def test_documents_that_are_not_json_objects(tmp_path: Path, name: str, content: str) -> None:
    (write_model(tmp_path) / name).write_text(content)
    assert name in refused(tmp_path, "model-config").message


def test_mistrals_own_layout(tmp_path: Path) -> None:
    write_model(tmp_path)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    (tmp_path / "model.safetensors").rename(tmp_path / "consolidated.safetensors")
    write_json(tmp_path / "tekken.json", {})
    refused(tmp_path, "model-config")
    write_json(tmp_path / "params.json", {})
    assert notes(tmp_path) == ()


def write_cache(folder: Path, *commits: str) -> Path:
    """A model's folder in a Hugging Face cache; refs/main names the last commit."""
    cache = folder / "models--org--name"
    (cache / "blobs").mkdir(parents=True)
    (cache / "refs").mkdir()
    for commit in commits:
        snapshot = write_model(cache / "snapshots" / commit)
        blob = cache / "blobs" / f"weights-{commit}"
        (snapshot / "model.safetensors").rename(blob)
        (snapshot / "model.safetensors").symlink_to(f"../../blobs/{blob.name}")
        (cache / "refs" / "main").write_text(commit)
    return cache


def test_a_cache_in_place_of_its_snapshot(tmp_path: Path) -> None:
    cache = write_cache(tmp_path, "bbb", "aaa")
    assert notes(cache / "snapshots" / "aaa") == ()
    error = refused(cache, "model-config")
    assert "cache" in error.message
    assert error.next == f"pack this folder instead: {cache / 'snapshots' / 'aaa'}"
    (cache / "refs" / "main").unlink()
    both = [str(cache / "snapshots" / commit) for commit in ("aaa", "bbb")]
    assert error.next.startswith("pack this folder instead: ")
    assert refused(cache, "model-config").next.endswith(" or ".join(both))


def test_a_folder_above_the_model(tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "llama")
    assert refused(tmp_path / "models", "model-config").next.endswith(
        str(tmp_path / "models" / "llama")
    )
    (tmp_path / "models" / "llama" / "config.json").unlink()
    refused(tmp_path / "models", "model-config")


@pytest.mark.parametrize(
    ("names", "enough"),
    [
        ((), False),
        (("vocab.json",), False),
        (("vocab.json", "merges.txt"), True),
        (("vocab.txt",), True),
        (("tokenizer.model",), True),
        (("tokenizer.model.v3",), True),
        (("tekken.json",), True),
    ],
)
def test_tokenizers(tmp_path: Path, names: tuple[str, ...], enough: bool) -> None:
    (write_model(tmp_path) / "tokenizer.json").unlink()
    for name in names:
        write_json(tmp_path / name, {})
    if enough:
        assert notes(tmp_path) == ()
    else:
        assert "tokenizer.json" in refused(tmp_path, "model-tokenizer").expected


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_of_the_model_is_said(tmp_path: Path, name: str) -> None:
    file = write_model(tmp_path) / name
    write_json(file, {**json.loads(file.read_text()), "auto_map": {"AutoModel": "m.py"}})
    (note,) = notes(tmp_path)
    assert name in note
    assert "never runs it" in note


def test_no_chat_template_is_said(tmp_path: Path) -> None:
    write_json(write_model(tmp_path) / "tokenizer_config.json", {})
    (note,) = notes(tmp_path)
    assert "--task completion" in note
    assert notes(tmp_path, "completion") == ()
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert notes(tmp_path) == ()
