"""dm-verity: does a layer's partition hold what the root hash on the command line says?

The root hash is measured, the layer is not; so an image is only as described if they agree. This
finds out before anything boots. Format: Linux, Documentation/admin-guide/device-mapper/verity.rst,
version 1: SHA-256, blocks of 4096 bytes, a salt of 32 zero bytes in front of each block, no
superblock, the hash tree (top level first) right behind the data.
"""

from __future__ import annotations

import hashlib

from measure.errors import FormatError
from measure.image import DiskImage, Layer
from measure.reader import Reader

BLOCK = 4096
_SALTED = hashlib.sha256(bytes(32))
_HASHES_PER_BLOCK = BLOCK // 32


def check_layers(disk: bytes | memoryview, image: DiskImage, file: str) -> None:
    """Hashes every layer of a disk: about a second for each GiB.

    Raises:
        FormatError: a layer without exactly one partition of its name, a partition that is too
            small, a root hash that is not the one on the command line, or a damaged hash tree.
    """
    for layer in image.layers:
        found = [p for p in image.table.partitions if p.label == layer.name]
        if len(found) != 1:
            raise FormatError(
                f"the disk does not have exactly one partition for layer {layer.name}",
                file=file,
                expected=f"one partition labelled {layer.name}",
                seen=str(len(found)),
            )
        reader = Reader(disk, file, found[0].start, min(found[0].end, len(disk)))
        size = layer.data_blocks * BLOCK
        start = reader.offset
        reader.skip(size, f"layer {layer.name}")
        _check(memoryview(disk)[start : start + size], reader, layer)


def _check(data: memoryview, reader: Reader, layer: Layer) -> None:
    """Compares root and tree; `reader` stands at the tree."""
    blocks = (data[at : at + BLOCK] for at in range(0, len(data), BLOCK))
    leaves = [_hash(block) for block in blocks]
    levels, top = [], leaves
    while len(top) > 1:
        groups = range(0, len(top), _HASHES_PER_BLOCK)
        packed = [b"".join(top[at : at + _HASHES_PER_BLOCK]).ljust(BLOCK, b"\0") for at in groups]
        levels.append(b"".join(packed))
        top = [_hash(block) for block in packed]
    start = reader.offset - len(data)
    tree = b"".join(reversed(levels))
    stored = reader.take(len(tree), f"hash tree of layer {layer.name}")
    if top[0].hex() != layer.root_hash:
        # The tree on the disk may still be that of the right data, and then tells which block.
        known = stored[len(tree) - len(levels[0]) :] if levels else b""
        pairs = enumerate(leaves)
        changed = [n for n, leaf in pairs if known[32 * n : 32 * n + 32] != leaf]
        raise FormatError(
            f"layer {layer.name} has another root hash than the command line"
            + (f" (first differing block: {changed[0]} of {len(leaves)})" if changed else ""),
            file=reader.file,
            offset=start + (changed[0] * BLOCK if changed else 0),
            expected=layer.root_hash,
            seen=top[0].hex(),
        )
    if stored != tree:
        raise FormatError(
            f"the hash tree of layer {layer.name} is damaged",
            file=reader.file,
            offset=start + len(data),
        )


def _hash(block: bytes | memoryview) -> bytes:
    state = _SALTED.copy()
    state.update(block)
    return state.digest()
