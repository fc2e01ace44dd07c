"""dm-verity for model disks: what to tell the kernel, and what its answers mean. No I/O.

What is on such a disk: formats/hash_tree.py. Nothing on the disk describes it: every parameter is
there or in the manifest. The kernel's side: Linux,
Documentation/admin-guide/device-mapper/verity.rst.
"""

from __future__ import annotations

from confide.errors import FormatError
from confide.protocol import hash_tree
from confide.protocol.hash_tree import BLOCK, SALT
from confide.protocol.manifest import Model

SECTOR = 512


def disk_size(model: Model) -> int:
    """Bytes that a model's disk has at least: data and hash tree."""
    return hash_tree.disk_size(model.hash_offset // BLOCK)


def table(model: Model, device: str) -> str:
    """The device-mapper table line that opens `device` (a path) as the model's data.

    It has no option on corruption, so a wrong block is an I/O error to whoever reads it.
    """
    data_blocks = model.hash_offset // BLOCK
    sectors = model.hash_offset // SECTOR
    return (
        f"0 {sectors} verity 1 {device} {device} {BLOCK} {BLOCK} "
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
