"""report_data: every input changes it, and nothing can be moved from one input to another."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from confide.errors import FormatError
from confide.protocol.binding import coordinator_report_data, join_report_data, report_data

NONCE = bytes(range(32))
JOIN: dict[str, Any] = {
    "role": "worker-cpu",
    "public_key": b"spki",
    "kem_public_key": b"kem",
    "manifest": b"manifest",
    "models": ["a", "b"],
    "mesh_ca": b"mesh",
    "gpus": b"gpus",
}
COORDINATOR: dict[str, Any] = {
    "manifest": b"m",
    "root_ca": b"r",
    "mesh_ca": b"c",
    "history": b"h",
    "time": 7,
}


def test_definition() -> None:
    digest = hashlib.sha256(
        b"a/1\0" + NONCE + hashlib.sha256(b"x").digest() + hashlib.sha256(b"").digest()
    ).digest()
    assert report_data("a/1", NONCE, [b"x", b""]) == digest + bytes(32)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_nonce_size(size: int) -> None:
    with pytest.raises(FormatError):
        report_data("a/1", bytes(size), [])


@pytest.mark.parametrize("label", ["", "a\0b", "ä"])
def test_label(label: str) -> None:
    with pytest.raises(FormatError):
        report_data(label, NONCE, [])


def test_items_cannot_move() -> None:
    inputs = [[b"ab"], [b"a", b"b"], [b"", b"ab"], [b"ab", b""], [b"b", b"a"], []]
    assert len({report_data("a/1", NONCE, items) for items in inputs}) == len(inputs)


def test_label_separates_purposes() -> None:
    items = [b"m", b"r", b"c", b"h", bytes(7) + b"\7"]
    assert coordinator_report_data(NONCE, **COORDINATOR) == report_data(
        "confide/coordinator/2", NONCE, items
    )
    assert coordinator_report_data(NONCE, **COORDINATOR) != report_data(
        "confide/join/2", NONCE, items
    )


@pytest.mark.parametrize("field", COORDINATOR)
def test_coordinator_binds(field: str) -> None:
    changed = {**COORDINATOR, field: 8 if field == "time" else b"other"}
    assert coordinator_report_data(NONCE, **changed) != coordinator_report_data(
        NONCE, **COORDINATOR
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("role", "coordinator"),
        ("public_key", b"other"),
        ("kem_public_key", b""),
        ("manifest", b"other"),
        ("models", ["a"]),
        ("models", ["b", "a"]),
        ("mesh_ca", b"other"),
        ("gpus", b"other"),
    ],
)
def test_join_binds(field: str, value: Any) -> None:
    changed = {**JOIN, field: value}
    assert join_report_data(NONCE, **changed) != join_report_data(NONCE, **JOIN)


def test_nonce_binds() -> None:
    assert join_report_data(bytes(32), **JOIN) != join_report_data(NONCE, **JOIN)
