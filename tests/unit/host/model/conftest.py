"""A small model, and segments so small that it has many of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from confide.host.model import hashing, pack

SEGMENT_BLOCKS = 128
CHECKPOINT_SEGMENTS = 4


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of 512 KiB, noted after every fourth."""
    monkeypatch.setattr(hashing, "SEGMENT_BLOCKS", SEGMENT_BLOCKS)
    monkeypatch.setattr(pack, "CHECKPOINT_SEGMENTS", CHECKPOINT_SEGMENTS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose data is 12 MiB, so 24 small segments, in files of all kinds."""
    folder = tmp_path / "model"
    write_model(folder)
    return folder


def write_model(folder: Path) -> None:
    """Files of odd sizes, an empty one, one in a folder, and names that tempt a parser."""
    (folder / "tokenizer").mkdir(parents=True)
    for number, size in enumerate((7_000_001, 5_000_000, 4096, 1)):
        (folder / f"weights-{number}.bin").write_bytes(bytes([number + 1, 7]) * (size // 2 + 1))
    (folder / "empty").write_bytes(b"")
    (folder / "tokenizer" / "vocab.txt").write_text("a\nb\n")
    (folder / "weights 0: 0..4096 | 4096 'ü\".bin").write_bytes(b"x" * 10_000)
