"""dm-verity for model disks: the kernel's input, and what its answers mean. No I/O.

protocol/hash_tree.py says what is on such a disk. No parameter comes from the disk: all are there
or in the manifest. Source: Linux, Documentation/admin-guide/device-mapper/verity.rst.
"""

from __future__ import annotations

from confide.errors import FormatError
from confide.protocol import hash_tree
from confide.protocol.hash_tree import BLOCK, SALT
from confide.protocol.model import Model

SECTOR = 512


def disk_size(model: Model) -> int:
    """Fewest bytes of a model's disk: data and hash tree."""
    return hash_tree.disk_size(model.hash_offset // BLOCK)


def table(model: Model, device: str) -> str:
    """The device-mapper table line that opens `device` (a path) as the model's data.

    It has no option on corruption, so reading a wrong block is an I/O error.
    """
    data_blocks = model.hash_offset // BLOCK
    sectors = model.hash_offset // SECTOR
    return (
        f"0 {sectors} verity 1 {device} {device} {BLOCK} {BLOCK} "
        f"{data_blocks} {data_blocks} sha256 {model.root_hash.hex()} {SALT.hex()}"
    )


def is_corrupted(status: str) -> bool:
    """Whether `dmsetup status DEVICE` reports a wrong block ("... verity C") or none ("... V").

    Raises FormatError for another line.
    """
    words = status.split()
    if len(words) < 4 or words[2] != "verity" or words[3] not in ("V", "C"):
        raise FormatError(
            "bad-verity-status",
            "the status is not one of a verity device",
            expected="0 SECTORS verity V|C",
            seen=ascii(status[:80]),
        )
    return words[3] == "C"
