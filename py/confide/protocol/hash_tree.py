"""The dm-verity hash tree of a model disk: its geometry, and the root hash. No I/O.

A model disk is data (an erofs file system, at least 2 blocks) and, right after it, the hash tree:
SHA-256 of each 4096-byte block with a salt of 32 zero bytes before it, 128 hashes to a block, the
last block of a level filled with zeros, the top level (one block) first and the leaves last. The
disk has no verity superblock.

Source: Linux, Documentation/admin-guide/device-mapper/verity.rst, version 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

BLOCK = 4096
SALT = bytes(32)
HASH = 32
HASHES_PER_BLOCK = BLOCK // HASH


@dataclass(frozen=True)
class Level:
    """`blocks` blocks of a disk from byte `offset` on."""

    offset: int
    blocks: int

    @property
    def end(self) -> int:
        """The offset of the first byte after the level."""
        return self.offset + self.blocks * BLOCK


def levels(data_blocks: int) -> tuple[Level, ...]:
    """The data, then each level of the tree over it, leaves first and the top last.

    Each level but the data holds the hashes of the blocks of the one before.
    """
    counts = [-(-data_blocks // HASHES_PER_BLOCK)]
    while counts[-1] > 1:
        counts.append(-(-counts[-1] // HASHES_PER_BLOCK))
    found = []
    offset = data_blocks * BLOCK
    for blocks in reversed(counts):
        found.append(Level(offset, blocks))
        offset = found[-1].end
    return (Level(0, data_blocks), *reversed(found))


def disk_size(data_blocks: int) -> int:
    """Bytes of a disk with this much data: data and hash tree."""
    return levels(data_blocks)[1].end


def root_hash(top_block: bytes) -> bytes:
    """The root hash (32 bytes) of the tree whose first block (4096 bytes) this is."""
    return sha256(SALT + top_block).digest()
