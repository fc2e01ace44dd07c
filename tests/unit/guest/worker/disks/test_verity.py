"""The hash tree of a model disk is veritysetup's, and so is what the kernel says of it."""

from __future__ import annotations

import pytest

from confide.errors import FormatError
from confide.guest.worker.disks import verity
from confide.protocol import hash_tree
from tests.support.simulated_disks import BLOCK, model_disk, verity_disk

TINY, _ = model_disk("tiny")


def test_root_hash_is_veritysetups() -> None:
    # Root hash printed by veritysetup 2.7.5 for 129 blocks, block i all bytes i, zero salt.
    data = b"".join(bytes([i]) * BLOCK for i in range(129))
    disk, root = verity_disk(data)
    assert root.hex() == "1f80296d52e9502d1ec420acbe5c1c4f170ae9d262e899e57991ed8346ebc1a8"
    assert hash_tree.root_hash(disk[len(data) :][:BLOCK]) == root


# Sizes of the trees that veritysetup 2.7.5 writes.
@pytest.mark.parametrize(
    ("data_blocks", "blocks"),
    [(2, 1), (127, 1), (128, 1), (129, 3), (16384, 129), (16385, 132), (40000, 317)],
)
def test_tree_size_is_veritysetups(data_blocks: int, blocks: int) -> None:
    assert hash_tree.disk_size(data_blocks) == (data_blocks + blocks) * BLOCK


def test_table_names_every_parameter() -> None:
    assert verity.table(TINY, "/dev/vdc") == (
        f"0 24 verity 1 /dev/vdc /dev/vdc 4096 4096 3 3 sha256 {TINY.root_hash.hex()} {'00' * 32}"
    )


@pytest.mark.parametrize(
    ("status", "corrupted"),
    [("0 24 verity V", False), ("0 24 verity V\n", False), ("0 24 verity C\n", True)],
)
def test_status(status: str, corrupted: bool) -> None:
    assert verity.is_corrupted(status) is corrupted


@pytest.mark.parametrize("status", ["", "0 24 linear", "0 24 verity", "0 24 verity X", "V"])
def test_status_that_says_neither_is_an_error(status: str) -> None:
    with pytest.raises(FormatError):
        verity.is_corrupted(status)
