"""The tree of nonces: each nonce has one place, and nothing else passes for a nonce."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from confide.errors import FormatError
from confide.protocol.coordinator import Attestation
from confide.protocol.nonce_tree import MAX_DEPTH, NonceTree, root_of
from tests.support import independent

VECTORS = Path(__file__).parents[2] / "vectors/protocol.json"
EMPTY = bytes(32)
SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 31, 33]
PATH = (bytes(32),) * 3
PLAIN = Attestation(b"", b"", b"", b"", b"", 0, 0, ())


def nonces(count: int) -> list[bytes]:
    return [sha256(f"nonce {index}".encode()).digest() for index in range(count)]


@pytest.mark.parametrize("count", SIZES)
def test_every_path_leads_to_the_root(count: int) -> None:
    given = nonces(count)
    tree = NonceTree(given)
    assert tree.root == independent.nonce_root(given)
    for index, nonce in enumerate(given):
        assert 1 << len(tree.path(index)) >= count
        assert root_of(nonce, index, tree.path(index)) == tree.root


def test_a_single_nonce_is_a_tree_as_well() -> None:
    (nonce,) = nonces(1)
    tree = NonceTree([nonce])
    assert (tree.root, tree.path(0)) == (sha256(b"\0" + nonce).digest(), ())


def test_another_nonce_place_or_path_has_another_root() -> None:
    given = nonces(8)
    tree = NonceTree(given)
    path = tree.path(5)
    assert root_of(given[4], 5, path) != tree.root
    assert root_of(given[5], 4, path) != tree.root
    assert root_of(given[5], 5, path[:-1]) != tree.root
    assert root_of(given[5], 5, (*path, EMPTY)) != tree.root
    assert root_of(given[5], 5, path[::-1]) != tree.root


def test_a_node_does_not_pass_for_a_nonce() -> None:
    """An attacker knows the nodes of a tree. None of them is the nonce of a shorter path."""
    given = nonces(4)
    tree = NonceTree(given)
    node = root_of(given[0], 0, tree.path(0)[:1])
    assert root_of(node, 0, tree.path(0)[1:]) != tree.root
    inside = sha256(b"\0" + given[0]).digest() + sha256(b"\0" + given[1]).digest()
    assert root_of(inside, 0, tree.path(0)[1:]) != tree.root


def test_what_fills_the_tree_is_no_nonce() -> None:
    tree = NonceTree(nonces(3))
    assert root_of(EMPTY, 3, tree.path(3)) != tree.root


@pytest.mark.parametrize("index", [8, 9, 1 << MAX_DEPTH - 1])
def test_an_index_outside_of_its_tree_is_refused(index: int) -> None:
    """Else one answer would have many spellings: the bits above the path decide nothing."""
    replace(PLAIN, index=7, path=PATH)
    with pytest.raises(FormatError) as error:
        Attestation.parse(_encoded(index, PATH))
    assert error.value.code == "bad-nonce-path"


@pytest.mark.parametrize("path", [(bytes(32),) * (MAX_DEPTH + 1), (bytes(31),), (b"",)])
def test_a_path_is_short_and_made_of_hashes(path: tuple[bytes, ...]) -> None:
    Attestation.parse(_encoded(0, (bytes(32),) * MAX_DEPTH))
    with pytest.raises(FormatError) as error:
        Attestation.parse(_encoded(0, path))
    assert error.value.code == "bad-field"


def test_the_vectors_five_nonces() -> None:
    """Computed by the package, and by code that shares nothing with it."""
    vector = json.loads(VECTORS.read_text())["binding"]["coordinator"]
    given = [bytes.fromhex(nonce) for nonce in vector["nonces"]]
    assert independent.nonce_root(given).hex() == vector["root"]
    for index, (nonce, hex_path) in enumerate(zip(given, vector["paths"], strict=True)):
        path = [bytes.fromhex(value) for value in hex_path]
        assert len(path) == 3
        for compute in (independent.nonce_root_from, root_of):
            assert compute(nonce, index, path).hex() == vector["root"]


def _encoded(index: int, path: tuple[bytes, ...]) -> bytes:
    fields = dict.fromkeys(("evidence", "manifest", "history", "root_ca", "mesh_ca"), b"")
    return independent.cbor({**fields, "time": 0, "index": index, "path": list(path)})
