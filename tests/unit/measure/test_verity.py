"""dm-verity: root hashes and trees against veritysetup's, and damage that is found.

The constants are from `veritysetup format --no-superblock --salt=<64 zeros> --hash=sha256
--data-blocks=N --hash-offset=N*4096` over builders.layer_data(N).
"""

from __future__ import annotations

import hashlib

import pytest

from measure import gpt, image, verity
from measure.errors import FormatError
from tests.support.measurement import builders

VERITYSETUP = {
    1: (
        "49acba383b2e1a917659615e96cecbc4afe69108c40eab43da0e4f9dd953ecd2",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ),
    12: (
        builders.ROOT_HASH,
        "f01c5fd9e083ae287425ca6a23199f0277ef16f8272071c851f2adcecc4ca5bb",
    ),
    300: (
        "e5aeb6bc0fb2eba518af5438230ff20de41caa365d44a541de61cc4948b28fdc",
        "cba640f204ee6542524ad8b96b45609a17cc7717f46b698a38ae4a003c0f0ed8",
    ),
}


def check(blocks: int, layer: bytes, *, label: str = "base") -> None:
    """Checks a disk with this layer against the command line of an undamaged one."""
    disk = builders.disk([(label, gpt.ESP_TYPE, layer)])
    root_hash = VERITYSETUP[blocks][0]
    parsed = image.parse(builders.bootable_disk(), "disk")
    table = gpt.parse(disk, "disk")
    layers = (image.Layer("base", root_hash, blocks),)
    verity.check_layers(disk, image.DiskImage(table, parsed.uki, parsed.uki_bytes, layers), "disk")


def whole_layer(blocks: int) -> bytes:
    data = builders.layer_data(blocks)
    return data + builders.hash_tree(data)


@pytest.mark.parametrize("blocks", VERITYSETUP)
def test_same_as_veritysetup(blocks: int) -> None:
    tree = builders.hash_tree(builders.layer_data(blocks))
    assert hashlib.sha256(tree).hexdigest() == VERITYSETUP[blocks][1]
    check(blocks, whole_layer(blocks))


@pytest.mark.parametrize(
    ("blocks", "offset", "message"),
    [
        (1, 4095, "another root hash"),
        (12, 5 * 4096, "first differing block: 5 of 12"),
        (300, 299 * 4096 + 7, "first differing block: 299 of 300"),
    ],
)
def test_a_flipped_bit_is_found(blocks: int, offset: int, message: str) -> None:
    layer = bytearray(whole_layer(blocks))
    layer[offset] ^= 1
    with pytest.raises(FormatError, match=message) as caught:
        check(blocks, bytes(layer))
    assert caught.value.expected == VERITYSETUP[blocks][0]
    if blocks > 1:
        assert caught.value.offset == 34 * 512 + offset // 4096 * 4096


@pytest.mark.parametrize("offset", [300 * 4096, 301 * 4096 + 17, -1])
def test_a_damaged_tree_is_found(offset: int) -> None:
    layer = bytearray(whole_layer(300))
    layer[offset] ^= 1
    with pytest.raises(FormatError, match="hash tree of layer base is damaged"):
        check(300, bytes(layer))


def test_data_and_tree_of_another_layer() -> None:
    data = builders.layer_data(12)[::-1]
    with pytest.raises(FormatError, match="another root hash"):
        check(12, data + builders.hash_tree(data))


def test_partition_too_small_or_missing() -> None:
    with pytest.raises(FormatError, match="hash tree of layer base is truncated"):
        check(12, whole_layer(12)[:-512])
    with pytest.raises(FormatError, match="layer base is truncated"):
        check(12, whole_layer(12)[:-8192])
    with pytest.raises(FormatError, match="one partition for layer base"):
        check(12, whole_layer(12), label="other")


def test_disk_without_layers_has_nothing_to_check() -> None:
    parsed = image.parse(builders.bootable_disk(builders.uki({".cmdline": b"quiet"})), "disk")
    verity.check_layers(b"", parsed, "disk")
