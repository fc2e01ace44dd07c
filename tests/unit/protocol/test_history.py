"""The history: hash-linked, signed, and its end is what the coordinator serves now."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from confide.encoding.canonical import cbor_decode, cbor_encode
from confide.errors import ConfideError, FormatError, VerificationError
from confide.protocol.history import (
    HistoryEntry,
    append_entry,
    encode_history,
    parse_history,
    verify_history,
)
from tests.support.mesh import Mesh


def make(mesh: Mesh, count: int) -> tuple[HistoryEntry, ...]:
    entries: tuple[HistoryEntry, ...] = ()
    for index in range(count):
        entries = append_entry(
            entries,
            manifest_sha256=bytes([index]) * 32,
            mesh_ca=b"mesh %d" % index,
            root_key=mesh.root.key,
        )
    return entries


def check(mesh: Mesh, data: bytes, count: int = 3) -> None:
    verify_history(
        parse_history(data),
        root_key=mesh.root.key.public_key(),
        manifest_sha256=bytes([count - 1]) * 32,
        mesh_ca=b"mesh %d" % (count - 1),
    )


@pytest.mark.parametrize("count", [1, 3])
def test_round_trip(mesh: Mesh, count: int) -> None:
    entries = make(mesh, count)
    assert parse_history(encode_history(entries)) == entries
    check(mesh, encode_history(entries), count)


def test_empty(mesh: Mesh) -> None:
    assert parse_history(encode_history(())) == ()
    with pytest.raises(VerificationError):
        check(mesh, encode_history(()))


def test_lost_swapped_and_repeated_entries(mesh: Mesh) -> None:
    a, b, c = make(mesh, 3)
    for entries in ((b, c), (a, c), (a, c, b), (b, a, c), (a, b, b), (a, b, c, c), (a, a, b, c)):
        with pytest.raises(FormatError) as error:
            parse_history(encode_history(entries))
        assert error.value.code == "bad-history"


def test_an_entry_of_another_chain(mesh: Mesh) -> None:
    """Signed by the same root and with the right number, but it follows something else."""
    first, _ = make(mesh, 2)
    other = append_entry(
        (), manifest_sha256=bytes([9]) * 32, mesh_ca=b"mesh 9", root_key=mesh.root.key
    )
    _, second = append_entry(
        other, manifest_sha256=bytes([1]) * 32, mesh_ca=b"mesh 1", root_key=mesh.root.key
    )
    with pytest.raises(FormatError, match="chain is broken"):
        parse_history(encode_history((first, second)))


def test_a_lost_end(mesh: Mesh) -> None:
    with pytest.raises(VerificationError, match="ends with another"):
        check(mesh, encode_history(make(mesh, 2)))


def test_another_root(mesh: Mesh, other_mesh: Mesh) -> None:
    with pytest.raises(VerificationError, match="did not sign"):
        check(mesh, encode_history(make(other_mesh, 3)))


def test_rewritten_entry(mesh: Mesh) -> None:
    """An entry with another manifest and the old signature, everything after it linked anew."""
    a, _, _ = make(mesh, 3)
    false = dataclasses.replace(a, manifest_sha256=bytes(31) + b"\1")
    entries = append_entry(
        (false,), manifest_sha256=bytes([1]) * 32, mesh_ca=b"mesh 1", root_key=mesh.root.key
    )
    with pytest.raises(VerificationError, match="did not sign history entry 0"):
        check(mesh, encode_history(entries), 2)


def test_another_mesh_ca(mesh: Mesh) -> None:
    entries = make(mesh, 1)
    with pytest.raises(VerificationError, match="another mesh CA"):
        verify_history(
            entries,
            root_key=mesh.root.key.public_key(),
            manifest_sha256=bytes(32),
            mesh_ca=b"mesh 1",
        )


def test_flipped_bytes(mesh: Mesh) -> None:
    data = encode_history(make(mesh, 2))
    for at in range(len(data)):
        with pytest.raises(ConfideError):
            check(mesh, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], 2)


def test_malformed(mesh: Mesh) -> None:
    value = cbor_decode(encode_history(make(mesh, 1)), what="test")
    assert isinstance(value, list) and isinstance(value[0], dict)
    entry = value[0]
    broken: list[Any] = [
        {},
        [1],
        [{**entry, "more": 1}],
        [{**entry, "sequence": 1}],
        [{**entry, "sequence": "0"}],
        [{**entry, "previous": bytes(31)}],
        [{**entry, "signature": bytes(200)}],
        *([{k: v for k, v in entry.items() if k != field}] for field in entry),
        [entry] * 1025,
    ]
    for changed in broken:
        with pytest.raises(FormatError):
            parse_history(cbor_encode(changed))
