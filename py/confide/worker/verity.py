"""dm-verity for model disks: what to tell the kernel, and what its answers mean. No I/O.

A model disk is an erofs file system, and from the manifest's `hash_offset` on the hash tree over
it: SHA-256 of 4096-byte blocks, salt of 32 zero bytes, no verity superblock, the top level first.
Nothing on the disk describes it: every parameter is here or in the manifest. The kernel's side:
Linux, Documentation/admin-guide/device-mapper/verity.rst.
"""

from __future__ import annotations

from hashlib import sha256

from confide.errors import FormatError
from confide.formats.manifest import VERITY_BLOCK, Model

SALT = bytes(32)
SECTOR = 512
HASHES_PER_BLOCK = VERITY_BLOCK // 32


def tree_blocks(data_blocks: int) -> int:
    """Blocks of the hash tree over `data_blocks` blocks (at least 2), all levels together."""
    total = 0
    level = data_blocks
    while True:
        level = -(-level // HASHES_PER_BLOCK)
        total += level
        if level == 1:
            return total


def disk_size(model: Model) -> int:
    """Bytes that a model's disk has at least: data and hash tree."""
    return model.hash_offset + tree_blocks(model.hash_offset // VERITY_BLOCK) * VERITY_BLOCK


def root_hash(top_block: bytes) -> bytes:
    """The root hash (32 bytes) of the tree whose first block (4096 bytes) this is."""
    return sha256(SALT + top_block).digest()


def table(model: Model, device: str) -> str:
    """The device-mapper table line that opens `device` (a path) as the model's data.

    It has no option on corruption, so a wrong block is an I/O error to whoever reads it.
    """
    data_blocks = model.hash_offset // VERITY_BLOCK
    sectors = model.hash_offset // SECTOR
    return (
        f"0 {sectors} verity 1 {device} {device} {VERITY_BLOCK} {VERITY_BLOCK} "
        f"{data_blocks} {data_blocks} sha256 {model.root_hash.hex()} {SALT.hex()}"
    )


def is_corrupted(status: str) -> bool:
    """Whether `dmsetup status DEVICE` says that a block was wrong: "0 SECTORS verity V" or "... C".

    Raises FormatError for a line that says neither.
    """
    words = status.split()
    if len(words) < 4 or words[2] != "verity" or words[3] not in ("V", "C"):
        raise FormatError(
            "bad-verity-status",
            "the device mapper's status is not one of a verity device",
            expected="0 SECTORS verity V|C",
            seen=ascii(status[:80]),
        )
    return words[3] == "C"
