"""Verifying every block of a model disk, from the root hash down, as the kernel does on reading.

Each block of the tree is checked before its hashes are used for the level below. So the first wrong
block that is found is damaged itself, and not only named by a damaged hash.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from confide.errors import VerificationError
from confide.host.model.hashing import Segment, hash_blocks, in_order, processes, read, segments
from confide.host.model.progress import Progress
from confide.protocol.hash_tree import BLOCK, HASH, Level, disk_size, levels, root_hash

# struct erofs_super_block: Linux, fs/erofs/erofs_fs.h
_SUPERBLOCK = struct.Struct("<I8xB23xI")
_SUPERBLOCK_OFFSET = 1024
_EROFS_MAGIC = 0xE0F5E1E2
_BLOCK_BITS = 12


@dataclass(frozen=True)
class Check:
    """A process's task: compare a segment of `disk` with its hashes on the disk."""

    disk: Path
    segment: Segment


def hash_offset_of(disk: Path) -> int:
    """Read from the file system of an unverified disk where the hash tree begins, in bytes.

    Raises:
        VerificationError: "not-a-model-disk": the first block has no erofs file system.
        OSError: The disk cannot be read.
    """
    with disk.open("rb") as file:
        file.seek(_SUPERBLOCK_OFFSET)
        data = file.read(_SUPERBLOCK.size)
    if len(data) == _SUPERBLOCK.size:
        magic, bits, blocks = _SUPERBLOCK.unpack(data)
        if magic == _EROFS_MAGIC and bits == _BLOCK_BITS and blocks > 1:
            return int(blocks) * BLOCK
    raise VerificationError(
        "not-a-model-disk",
        f"{disk} is not a model disk, or its first block is damaged",
        expected="an erofs file system of 4096-byte blocks",
        next="if it is one, use --manifest and --model: a manifest says where the hash tree begins",
    )


def verify(disk: Path, root: bytes, hash_offset: int, progress: Callable[[int], Progress]) -> int:
    """Check every block of a disk against a root hash. Bytes after the hash tree are not read.

    Args:
        disk: A file or a block device.
        root: The root hash, 32 bytes.
        hash_offset: Where the hash tree begins, in bytes.
        progress: Gets the number of bytes to check, and returns a function that counts them.

    Returns:
        How many bytes were checked.

    Raises:
        VerificationError: "bad-hash-offset", "truncated-model-disk", "wrong-root-hash", or
            "wrong-block" with the offset of the first one.
        OSError: The disk cannot be read.
    """
    if hash_offset % BLOCK or hash_offset < 2 * BLOCK:
        raise VerificationError(
            "bad-hash-offset",
            "the offset of the hash tree is invalid",
            expected=f"a multiple of {BLOCK}, at least {2 * BLOCK}",
            seen=str(hash_offset),
            next="use the entry or manifest that was made with this disk",
        )
    need = disk_size(hash_offset // BLOCK)
    with disk.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
    if size < need:
        raise VerificationError(
            "truncated-model-disk",
            f"{disk} is truncated",
            expected=f"{need} bytes: {hash_offset} of data and their hash tree",
            seen=f"{size} bytes",
            next="copy the disk again",
        )
    top_down = levels(hash_offset // BLOCK)[::-1]
    count = progress(need)
    _check_top(disk, root, top_down[0], top_down[1])
    count(BLOCK)
    with processes() as pool:
        for above, level in pairwise(top_down):
            what = "of the data" if level is top_down[-1] else "of the hash tree"
            every = list(segments(level, above))
            found = in_order(pool, first_wrong, (Check(disk, segment) for segment in every))
            for segment, wrong in zip(every, found, strict=True):
                if wrong is not None:
                    raise _wrong_block(disk, root, segment.offset + wrong * BLOCK, what)
                count(segment.size)
    return need


def first_wrong(check: Check) -> int | None:
    """Find the first wrong block of a segment.

    Returns:
        Its number in the segment, from 0; None if every block has the hash that is on the disk.

    Raises:
        OSError: The disk cannot be read.
    """
    segment = check.segment
    with check.disk.open("rb", buffering=0) as file:
        computed = hash_blocks(read(file.fileno(), segment.offset, segment.size))
        stored = read(file.fileno(), segment.hashes, segment.blocks * HASH)
    if computed == stored:
        return None
    pairs = range(0, len(stored), HASH)
    return next(at // HASH for at in pairs if computed[at : at + HASH] != stored[at : at + HASH])


def _check_top(disk: Path, root: bytes, top: Level, below: Level) -> None:
    """Check the root hash. If it is wrong, tell another disk from a damaged block."""
    with disk.open("rb") as file:
        file.seek(top.offset)
        block = file.read(BLOCK)
    found = root_hash(block)
    if found == root:
        return
    hashes = below.blocks * HASH
    whole = [first_wrong(Check(disk, segment)) is None for segment in segments(below, top)]
    if not all(whole) or any(block[hashes:]):
        raise _wrong_block(disk, root, top.offset, "of the hash tree")
    raise VerificationError(
        "wrong-root-hash",
        f"{disk} is a different disk: its hash tree has another root hash",
        expected=root.hex(),
        seen=found.hex(),
        next="use the disk that was packed with this manifest entry",
    )


def _wrong_block(disk: Path, root: bytes, offset: int, what: str) -> VerificationError:
    return VerificationError(
        "wrong-block",
        f"{disk} is damaged: the first wrong block {what} is at offset {offset}",
        expected=f"the block that belongs to root hash {root.hex()}",
        next="copy the disk again; no worker serves a damaged disk",
    )
