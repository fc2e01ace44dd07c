"""Reading the header of a safetensors file: a file that is not whole is refused."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from confide.errors import ConfigError
from confide.host.model.safetensors import read_tensors
from confide.host.model.source import SourceFile
from tests.support.model_folder import safetensors, with_header

ROOT = Path(__file__).parents[4]
F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def written(folder: Path, content: bytes) -> SourceFile:
    path = folder / "model.safetensors"
    path.write_bytes(content)
    return SourceFile("model.safetensors", path, len(content), 0)


def refused(folder: Path, content: bytes) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_tensors(written(folder, content))
    assert caught.value.code == "model-weights"
    assert "model.safetensors" in caught.value.message
    return caught.value


def test_the_tiny_models_weights(tmp_path: Path) -> None:
    """They are written by another program than the one of these tests."""
    made = runpy.run_path(str(ROOT / "nix" / "model-tiny.py"))
    content = made["files"]()["model.safetensors"]
    assert read_tensors(written(tmp_path, content)) == set(made["weights"]())


def test_packed_dtypes(tmp_path: Path) -> None:
    tensors = {
        "four": {"dtype": "F4", "shape": [3, 2], "data_offsets": [0, 3]},
        "none": {"dtype": "BF16", "shape": [0, 7], "data_offsets": [3, 3]},
        "scalar": {"dtype": "F8_E8M0", "shape": [], "data_offsets": [3, 4]},
    }
    content = with_header(json.dumps(tensors).encode(), bytes(4))
    assert read_tensors(written(tmp_path, content)) == set(tensors)


@pytest.mark.parametrize("lost", [1, 8, 32])
def test_truncated(tmp_path: Path, lost: int) -> None:
    content = safetensors({"a": 3, "c": 5})
    error = refused(tmp_path, content[:-lost])
    assert f"{len(content)} bytes" in error.expected
    assert error.seen == f"{len(content) - lost} bytes"


def test_every_shorter_file_is_refused(tmp_path: Path) -> None:
    content = safetensors({"a": 1})
    for length in range(len(content)):
        refused(tmp_path, content[:length])


def test_more_bytes_than_the_header_says(tmp_path: Path) -> None:
    refused(tmp_path, safetensors({"a": 1}) + b"\0")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a": 7}',
        b'{"a": {"dtype": "F32", "shape": [2]}}',
    ],
)
def test_headers_that_are_none(tmp_path: Path, header: bytes) -> None:
    refused(tmp_path, with_header(header, bytes(8)))


@pytest.mark.parametrize("header", [b"{}", b'{"__metadata__": {"format": "pt"}}'])
def test_no_tensor(tmp_path: Path, header: bytes) -> None:
    assert "at least one tensor" in refused(tmp_path, with_header(header, b"")).expected


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "F33"},
        {"dtype": 32},
        {"shape": [3]},
        {"shape": [-2]},
        {"shape": [True, 2]},
        {"shape": [2.0]},
        {"shape": 2},
        {"data_offsets": [0, 4]},
        {"data_offsets": [8, 0]},
        {"data_offsets": [-8, 0]},
        {"data_offsets": [4, 12]},
        {"data_offsets": [0, 8, 8]},
    ],
)
def test_tensors_that_do_not_fill_their_bytes(tmp_path: Path, change: dict[str, object]) -> None:
    assert read_tensors(written(tmp_path, with_header(json.dumps({"a": F32}).encode(), bytes(8))))
    refused(tmp_path, with_header(json.dumps({"a": {**F32, **change}}).encode(), bytes(8)))


def test_offsets_are_numbers(tmp_path: Path) -> None:
    """To Python, true equals 1."""
    tensor = {"dtype": "U8", "shape": [1], "data_offsets": [False, True]}
    refused(tmp_path, with_header(json.dumps({"a": tensor}).encode(), bytes(1)))


@pytest.mark.parametrize("shape", [[0, 2**64], [2**32, 2**32, 0], [10**2000] * 5000])
def test_a_shape_beyond_64_bits(tmp_path: Path, shape: list[int]) -> None:
    """The library refuses it. Multiplied out, the last one would take minutes."""
    tensor = {"dtype": "U8", "shape": shape, "data_offsets": [8, 8]}
    refused(tmp_path, with_header(json.dumps({"a": F32, "b": tensor}).encode(), bytes(8)))


@pytest.mark.parametrize("first", [4, 12])
def test_tensors_that_overlap_or_leave_a_gap(tmp_path: Path, first: int) -> None:
    second = {**F32, "data_offsets": [first, first + 8]}
    refused(tmp_path, with_header(json.dumps({"a": F32, "b": second}).encode(), bytes(first + 8)))


def test_a_header_as_large_as_the_library_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = safetensors({"a": 1})
    monkeypatch.setattr("confide.host.model.safetensors.MAX_HEADER", len(content) - 12)
    assert read_tensors(written(tmp_path, content))
    monkeypatch.setattr("confide.host.model.safetensors.MAX_HEADER", len(content) - 13)
    refused(tmp_path, content)
