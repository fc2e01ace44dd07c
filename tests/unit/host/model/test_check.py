"""Verifying a disk: each way to be wrong has its own error, and the place is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.errors import VerificationError
from confide.host.model.check import hash_offset_of, verify
from confide.protocol.hash_tree import BLOCK, levels

DATA_BLOCKS = 20_000  # 157 leaves, 2 blocks above them, and the top: four levels with the data


class Disk(NamedTuple):
    path: Path
    root: bytes
    hash_offset: int
    content: bytes

    def verify(self) -> int:
        return verify(self.path, self.root, self.hash_offset, lambda _total: lambda _count: None)

    def error(self) -> VerificationError:
        with pytest.raises(VerificationError) as caught:
            self.verify()
        return caught.value


def make(path: Path, data: bytes) -> Disk:
    """A disk whose tree is made the plain way."""
    made, level = [], data
    while len(level) > BLOCK:
        blocks = (level[at : at + BLOCK] for at in range(0, len(level), BLOCK))
        hashes = b"".join(sha256(bytes(32) + block).digest() for block in blocks)
        level = hashes + bytes(-len(hashes) % BLOCK)
        made.append(level)
    content = data + b"".join(reversed(made))
    path.write_bytes(content)
    return Disk(path, sha256(bytes(32) + level).digest(), len(data), content)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    data = b"".join(n.to_bytes(4, "big") * (BLOCK // 4) for n in range(DATA_BLOCKS))
    return make(tmp_path_factory.mktemp("disk") / "model.disk", data)


@pytest.fixture
def disk(good: Disk) -> Iterator[Disk]:
    """The good disk, which each test may change."""
    yield good
    good.path.write_bytes(good.content)


def flip(disk: Disk, *offsets: int) -> None:
    with disk.path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            file.write(bytes([disk.content[offset] ^ 1]))


def test_a_good_disk(disk: Disk) -> None:
    assert disk.verify() == len(disk.content)


def test_what_is_behind_the_tree_is_not_read(disk: Disk) -> None:
    with disk.path.open("ab") as file:
        file.write(b"the rest of a larger device")
    assert disk.verify() == len(disk.content)


@pytest.mark.usefixtures("small_segments")
def test_every_byte_counts_as_progress(disk: Disk) -> None:
    totals: list[int] = []
    counts: list[int] = []

    def progress(total: int) -> Callable[[int], None]:
        totals.append(total)
        return counts.append

    verify(disk.path, disk.root, disk.hash_offset, progress)
    assert totals == [len(disk.content)] == [sum(counts)]


def places() -> list[tuple[str, int]]:
    """A byte in the first, a middle and the last block of each level."""
    data, *tree = levels(DATA_BLOCKS)
    return [
        (what, level.offset + block * BLOCK + at)
        for what, level in [("data", data), *(("hash tree", level) for level in tree)]
        for block, at in ((0, 0), (level.blocks // 2, 1234), (level.blocks - 1, BLOCK - 1))
    ]


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize(("what", "offset"), places())
def test_a_flipped_byte_is_found_where_it_is(disk: Disk, what: str, offset: int) -> None:
    """Also in the zeros behind a level's last hash, which are hashed like all else."""
    flip(disk, offset)
    error = disk.error()
    assert error.code == "wrong-block"
    assert f"of the {what} is at offset {offset // BLOCK * BLOCK}" in error.message


def test_the_first_of_several_wrong_blocks_is_named(disk: Disk) -> None:
    flip(disk, 19_000 * BLOCK, 9_000 * BLOCK + 5, 9_001 * BLOCK)
    assert disk.error().message.endswith(f"of the data is at offset {9_000 * BLOCK}")
    leaves = levels(DATA_BLOCKS)[1]
    flip(disk, leaves.offset + BLOCK)
    assert f"of the hash tree is at offset {leaves.offset + BLOCK}" in disk.error().message


@settings(max_examples=25, deadline=None)
@given(offset=st.integers(0, 3 * BLOCK + BLOCK - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_passes(
    tmp_path_factory: pytest.TempPathFactory, offset: int, bit: int
) -> None:
    small = make(tmp_path_factory.mktemp("disk") / "model.disk", bytes(range(256)) * 48)
    content = bytearray(small.content)
    content[offset] ^= 1 << bit
    small.path.write_bytes(content)
    assert small.error().code == "wrong-block"
    assert str(offset // BLOCK * BLOCK) in small.error().message


def test_another_disk(disk: Disk, tmp_path: Path) -> None:
    other = make(tmp_path / "other.disk", disk.content[:BLOCK] * DATA_BLOCKS)
    error = other._replace(root=disk.root).error()
    assert error.code == "wrong-root-hash"
    assert (error.expected, error.seen) == (disk.root.hex(), other.root.hex())


@pytest.mark.parametrize("lost", [1, BLOCK, 100 * BLOCK])
def test_truncated(disk: Disk, lost: int) -> None:
    disk.path.write_bytes(disk.content[:-lost])
    error = disk.error()
    assert error.code == "truncated-model-disk"
    assert error.seen == f"{len(disk.content) - lost} bytes"


@pytest.mark.parametrize("offset", [0, BLOCK, 2 * BLOCK + 1])
def test_no_tree_can_be_there(disk: Disk, offset: int) -> None:
    assert disk._replace(hash_offset=offset).error().code == "bad-hash-offset"


def test_hash_offset_is_the_file_systems_size(built_model: Path, tmp_path: Path) -> None:
    content = bytearray((built_model / "model.disk").read_bytes())
    assert hash_offset_of(built_model / "model.disk") == len(content) - BLOCK
    for offset in (1024, 1024 + 12):  # magic, block size
        changed = bytearray(content)
        changed[offset] ^= 1
        (tmp_path / "model.disk").write_bytes(changed)
        with pytest.raises(VerificationError, match="not a model disk"):
            hash_offset_of(tmp_path / "model.disk")
    for length in (0, 1024, 1060):
        (tmp_path / "model.disk").write_bytes(content[:length])
        with pytest.raises(VerificationError, match="not a model disk"):
            hash_offset_of(tmp_path / "model.disk")
