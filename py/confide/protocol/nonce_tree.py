"""The tree over nonces that wait for a quote: one quote answers all of them.

A leaf is SHA-256(0x00 ‖ nonce), and a node above is SHA-256(0x01 ‖ left ‖ right), so neither passes
for the other (RFC 9162, section 2.1.1). The lowest level is filled up with 32 zero bytes, which is
the hash of nothing known, to the next power of two. So a leaf's place is a number, and the bits of
that number say on which side each hash of its path goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

MAX_DEPTH = 16
"""Most hashes of a path: a tree has at most 65,536 leaves."""

HASH_SIZE = 32
_LEAF = b"\0"
_NODE = b"\1"
_EMPTY = bytes(HASH_SIZE)


class NonceTree:
    """The tree over these nonces: 1 to 65,536 byte strings of 32 bytes, in their order."""

    def __init__(self, nonces: Sequence[bytes]) -> None:
        level = [_leaf(nonce) for nonce in nonces]
        level += [_EMPTY] * ((1 << (len(level) - 1).bit_length()) - len(level))
        self._levels = [level]
        while len(level) > 1:
            level = [_node(*level[at : at + 2]) for at in range(0, len(level), 2)]
            self._levels.append(level)

    @property
    def root(self) -> bytes:
        """32 bytes: what the quote binds in place of a nonce."""
        return self._levels[-1][0]

    def path(self, index: int) -> tuple[bytes, ...]:
        """The hash beside each node from the leaf `index` up to the root, 32 bytes each."""
        return tuple(level[(index >> height) ^ 1] for height, level in enumerate(self._levels[:-1]))


def root_of(nonce: bytes, index: int, path: Sequence[bytes]) -> bytes:
    """The root (32 bytes) of the tree in which `nonce` is the leaf `index`, with this path."""
    reached = _leaf(nonce)
    for height, beside in enumerate(path):
        right = index >> height & 1
        reached = _node(beside, reached) if right else _node(reached, beside)
    return reached


def _leaf(nonce: bytes) -> bytes:
    return sha256(_LEAF + nonce).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(_NODE + left + right).digest()
