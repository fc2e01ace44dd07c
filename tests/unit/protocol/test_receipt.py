"""Receipts: the right one verifies, and each thing it vouches for is compared."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from confide.encoding.canonical import cbor_decode, cbor_encode
from confide.errors import ConfideError, FormatError, VerificationError
from confide.protocol.keyexchange import worker_id_of
from confide.protocol.receipt import Receipt, Statement, sign_receipt
from confide.protocol.usage import TOKEN, Usage
from confide.verify.receipt import verify_receipt
from tests.support.mesh import NOW, Mesh


def h(byte: int) -> bytes:
    return bytes([byte]) * 32


STATEMENT = Statement(
    request_sha256=h(1),
    response_sha256=h(2),
    manifest_sha256=h(3),
    model="tiny",
    model_root_hash=h(4),
    time=NOW,
    usage=Usage(TOKEN, 5, 6),
)


def check(mesh: Mesh, receipt: bytes, **changes: Any) -> Statement:
    arguments: dict[str, Any] = {
        "mesh_ca": mesh.mesh.der,
        "root_ca": mesh.root.der,
        "roles": ("worker-cpu",),
        "worker": worker_id_of(mesh.key.public_key()),
        "request_sha256": h(1),
        "response_sha256": h(2),
        "manifest_sha256": h(3),
        "model": "tiny",
        "model_root_hash": h(4),
        "usage": Usage(TOKEN, 5, 6),
        "now": NOW,
    }
    return verify_receipt(receipt, **{**arguments, **changes})


def signed(mesh: Mesh, **changes: Any) -> bytes:
    return sign_receipt(dataclasses.replace(STATEMENT, **changes), mesh.key, mesh.leaf())


def test_round_trip(mesh: Mesh) -> None:
    assert check(mesh, signed(mesh)) == STATEMENT
    assert check(mesh, signed(mesh), usage=None) == STATEMENT
    assert Statement.parse(STATEMENT.encode()) == STATEMENT


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("request_sha256", h(9)),
        ("response_sha256", h(9)),
        ("manifest_sha256", h(9)),
        ("model_root_hash", h(9)),
        ("model", "big"),
    ],
)
def test_a_receipt_for_something_else(mesh: Mesh, field: str, value: Any) -> None:
    with pytest.raises(VerificationError) as error:
        check(mesh, signed(mesh, **{field: value}))
    assert error.value.code == "bad-receipt"


@pytest.mark.parametrize("usage", [Usage(TOKEN, 5, 7), Usage(TOKEN, 4, 6), Usage("image", 5, 6)])
def test_changed_token_counts(mesh: Mesh, usage: Usage) -> None:
    with pytest.raises(VerificationError) as error:
        check(mesh, signed(mesh), usage=usage)
    assert error.value.code == "bad-usage"


def test_another_signer(mesh: Mesh, other_mesh: Mesh) -> None:
    for receipt in (
        sign_receipt(STATEMENT, ec.generate_private_key(ec.SECP256R1()), mesh.leaf()),
        sign_receipt(STATEMENT, other_mesh.key, mesh.leaf()),
        sign_receipt(STATEMENT, other_mesh.key, other_mesh.leaf()),
    ):
        with pytest.raises(VerificationError):
            check(mesh, receipt)


def test_another_worker_of_the_mesh(mesh: Mesh) -> None:
    """Its certificate is genuine, but the request was sealed for another machine."""
    with pytest.raises(VerificationError, match="another worker") as error:
        check(mesh, signed(mesh), worker=h(7))
    assert error.value.code == "bad-receipt"


def test_another_role(mesh: Mesh) -> None:
    receipt = sign_receipt(STATEMENT, mesh.key, mesh.leaf("secret-service"))
    with pytest.raises(VerificationError) as error:
        check(mesh, receipt)
    assert error.value.code == "wrong-role"


def test_a_worker_that_does_not_serve_the_model(mesh: Mesh) -> None:
    receipt = sign_receipt(STATEMENT, mesh.key, mesh.leaf("worker-cpu", ("big",)))
    with pytest.raises(VerificationError) as error:
        check(mesh, receipt)
    assert error.value.code == "bad-receipt"


def test_expired_certificate(mesh: Mesh) -> None:
    with pytest.raises(VerificationError) as error:
        check(mesh, signed(mesh), now=NOW + 3601)
    assert error.value.code == "not-valid-now"


def test_the_label_is_signed(mesh: Mesh) -> None:
    """A signature by the same key over the bare statement does not count."""
    statement = STATEMENT.encode()
    signature = mesh.key.sign(statement, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(VerificationError):
        check(mesh, Receipt(statement, signature, mesh.leaf()).encode())


def test_flipped_bytes(mesh: Mesh) -> None:
    receipt = signed(mesh)
    for at in range(0, len(receipt), 3):
        with pytest.raises(ConfideError):
            check(mesh, receipt[:at] + bytes([receipt[at] ^ 1]) + receipt[at + 1 :])


@pytest.mark.parametrize("field", ["statement", "signature", "certificate"])
def test_malformed_receipts(mesh: Mesh, field: str) -> None:
    value = cbor_decode(signed(mesh), what="test")
    assert isinstance(value, dict)
    for changed in (
        {k: v for k, v in value.items() if k != field},
        {**value, field: "text"},
        {**value, field: b""},
        {**value, field: bytes(20000)},
        {**value, "more": 1},
    ):
        with pytest.raises(ConfideError):
            check(mesh, cbor_encode(changed))


def test_malformed_statements() -> None:
    value = cbor_decode(STATEMENT.encode(), what="test")
    assert isinstance(value, dict)
    usage = value["usage"]
    assert isinstance(usage, dict)
    broken: list[Any] = [
        *({k: v for k, v in value.items() if k != field} for field in value),
        {**value, "more": 1},
        {**value, "time": -1},
        {**value, "model": "Tiny"},
        {**value, "request_sha256": bytes(31)},
        {**value, "usage": {**usage, "more": 11}},
        {**value, "usage": {"input": 5}},
    ]
    for changed in broken:
        with pytest.raises(FormatError):
            Statement.parse(cbor_encode(changed))
