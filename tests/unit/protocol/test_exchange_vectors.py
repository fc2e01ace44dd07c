"""Vectors of keys, requests and responses: computed without the package, then read by it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confide.protocol.bill import Bill, BillStatement, billing_of
from confide.protocol.frames import ClearError, Data, Final, Head, Wait
from confide.protocol.kem import KemPrivateKey
from confide.protocol.keyexchange import SealedKeyMessage, open_key, worker_key
from confide.protocol.manifest import Manifest
from confide.protocol.opener import ResponseOpener
from confide.protocol.sealed import RequestHeaders, SealedRequest
from confide.protocol.secret_service import ReleasedKey
from confide.protocol.share import open_share
from confide.protocol.usage import Usage
from confide.verify.receipt import verify_receipt
from tests.support import independent
from tests.support.independent import cbor, sha256, uncbor
from tests.support.protocol_vectors import VECTORS, b, manifest_bytes


def hpke(owner: str, sealed: bytes, label: bytes) -> bytes:
    keys = VECTORS["keys"][owner]
    seed, private = bytes.fromhex(keys["mlkem_seed"]), bytes.fromhex(keys["x25519_private"])
    mlkem = MLKEM768PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()
    x25519 = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    assert (mlkem + x25519).hex() == keys["kem_public_key"]
    info = label + sha256(manifest_bytes())
    return independent.hpke_open(seed, private, sealed[:1120], sealed[1120:], info)


@pytest.mark.parametrize("name", ["message", "message_with_billing"])
def test_key_messages(name: str) -> None:
    vector = VECTORS["keys"]
    message = uncbor(b("keys", name))
    assert sorted(message) == ["ciphertext", "enc", "kem_sha256"]
    assert message["kem_sha256"] == sha256(b("keys", "secret_service", "kem_public_key"))
    sealed = message["enc"] + message["ciphertext"]
    assert hpke("secret_service", sealed, b"confide/key/2") == cbor(
        {
            "key": b("keys", "key"),
            "model": vector["model"],
            "issued": vector["issued"],
            "billing": b("billing", "billing") if "billing" in name else b"",
        }
    )


def test_what_a_key_becomes() -> None:
    vector, key = VECTORS["keys"], b("keys", "key")
    assert independent.key_id(key).hex() == vector["key_id"]
    assert sha256(b("keys", "worker_spki")).hex() == vector["worker_id"]
    derived = independent.worker_key(key, b("keys", "worker_spki"), "tiny")
    assert derived.hex() == vector["worker_key"]
    released = {"key": derived, "model": "tiny", "expires_in": 3600, "billing": b""}
    assert cbor(released).hex() == vector["released"]
    paid = released | {"billing": b("billing", "payer")}
    assert cbor(paid).hex() == vector["released_with_billing"]
    leaf = x509.load_der_x509_certificate(b("certificates", "worker")).public_key()
    spki = leaf.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert spki == b("keys", "worker_spki")


def test_share() -> None:
    assert hpke("worker", b("keys", "sealed_share"), b"confide/share/2") == b("keys", "share")


def test_billing() -> None:
    vector = VECTORS["billing"]
    payer = ec.derive_private_key(int(vector["private_scalar"], 16), ec.SECP256R1()).public_key()
    spki = payer.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    billing = uncbor(b("billing", "billing"))
    assert (billing["public_key"].hex(), spki.hex()) == (vector["public_key"],) * 2
    signed = b"confide/billing/2\0" + b("keys", "key_id") + sha256(manifest_bytes())
    payer.verify(billing["signature"], signed, ec.ECDSA(hashes.SHA256()))
    assert sha256(spki).hex() == vector["payer"]


def test_padding() -> None:
    assert VECTORS["padding"]
    for length, padded in VECTORS["padding"].items():
        assert independent.padme(int(length)) == padded


def test_request() -> None:
    request, keys = VECTORS["exchange"]["request"], VECTORS["keys"]
    clear = (
        sha256(b("keys", "worker", "kem_public_key")),
        b("keys", "sealed_share"),
        bytes.fromhex(request["salt"]),
    )
    manifest = sha256(manifest_bytes())
    place = [request["method"], request["path"], "tiny", b("keys", "key_id"), manifest]
    place.append(b("keys", "worker_id"))
    content = {name: request[name] for name in ("content_type", "pace_ms")}
    content["body"] = bytes.fromhex(request["body"])
    sealed = independent.request(b("keys", "worker_key"), b("keys", "share"), clear, place, content)
    assert sealed.hex() == request["sealed"]
    assert request["salt"].startswith("0000000000000007")
    assert request["headers"] == {
        "Confide-Version": "2",
        "Confide-Manifest": manifest.hex(),
        "Confide-Model": "tiny",
        "Confide-Key-Id": keys["key_id"],
        "Confide-Worker": keys["worker_id"],
        "Content-Type": "application/confide-request",
    }


def response_key(name: str) -> bytes:
    salts = b("exchange", "request", "salt") + b("exchange", name, "salt")
    return independent.response_key(b("keys", "worker_key"), b("keys", "share"), salts)


def test_response() -> None:
    response, key = VECTORS["exchange"]["response"], response_key("response")
    head = {"status": response["status"], "content_type": response["content_type"], "length": -1}
    chunks = [bytes.fromhex(chunk) for chunk in response["chunks"]]
    frames = [(3, b""), (0, cbor(head)), (1, chunks[0]), (3, b""), (1, chunks[1]), (1, chunks[2])]
    stream = independent.record(4, bytes.fromhex(response["salt"]))
    for number, (kind, content) in enumerate(frames):
        stream += independent.frame(key, number, kind, content)
    stream += independent.record(2, cbor(response["usage"]))
    stream += independent.frame(key, len(frames), 2, bytes.fromhex(response["receipt"]))
    stream += independent.bill_record(bytes.fromhex(response["bill"]))
    assert stream.hex() == response["stream"]
    assert int.from_bytes(stream[-8:-4], "big") == 5 + len(response["bill"]) // 2 + 8


def test_whole_response() -> None:
    whole, key = VECTORS["exchange"]["whole"], response_key("whole")
    body = bytes.fromhex(whole["body"])
    head = {
        "status": whole["status"],
        "content_type": whole["content_type"],
        "length": len(body),
    }
    stream = independent.record(4, bytes.fromhex(whole["salt"]))
    stream += independent.frame(key, 0, 0, cbor(head))
    padded = body + bytes(independent.padme(len(body)) - len(body))
    stream += independent.frame(key, 1, 1, padded)
    stream += independent.record(2, cbor(VECTORS["exchange"]["response"]["usage"]))
    stream += independent.frame(key, 2, 2, bytes.fromhex(whole["receipt"]))
    assert stream.hex() == whole["stream"]


@pytest.mark.parametrize("name", ["response", "whole"])
def test_receipt(name: str) -> None:
    exchange = VECTORS["exchange"]
    receipt = uncbor(b("exchange", name, "receipt"))
    verify_by_worker(receipt, b"confide/receipt/2\0")
    chunks = [bytes.fromhex(chunk) for chunk in exchange["response"]["chunks"]]
    body = b"".join(chunks) if name == "response" else b("exchange", "whole", "body")
    manifest = json.loads(manifest_bytes())
    assert receipt["statement"] == cbor(
        {
            "request_sha256": sha256(b("exchange", "request", "sealed")),
            "response_sha256": sha256(body),
            "manifest_sha256": sha256(manifest_bytes()),
            "model": "tiny",
            "model_root_hash": bytes.fromhex(manifest["models"][0]["root_hash"]),
            "time": VECTORS["certificates"]["valid_at"],
            "usage": exchange["response"]["usage"],
        }
    )


def test_bill() -> None:
    bill = uncbor(b("exchange", "response", "bill"))
    verify_by_worker(bill, b"confide/bill/2\0")
    assert bill["statement"] == cbor(
        {
            "billing": b("billing", "payer"),
            "request_sha256": sha256(b("exchange", "request", "sealed")),
            "manifest_sha256": sha256(manifest_bytes()),
            "model": "tiny",
            "time": VECTORS["certificates"]["valid_at"],
            "usage": VECTORS["exchange"]["response"]["usage"],
        }
    )


def verify_by_worker(signed: Any, label: bytes) -> None:
    assert signed["certificate"] == b("certificates", "worker")
    worker = x509.load_der_x509_certificate(signed["certificate"]).public_key()
    assert isinstance(worker, ec.EllipticCurvePublicKey)
    worker.verify(signed["signature"], label + signed["statement"], ec.ECDSA(hashes.SHA256()))


# Read by the package


def kem_of(owner: str) -> KemPrivateKey:
    return KemPrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(b("keys", owner, "mlkem_seed")),
        X25519PrivateKey.from_private_bytes(b("keys", owner, "x25519_private")),
    )


def test_the_package_reads_keys_and_the_request() -> None:
    now = VECTORS["certificates"]["valid_at"]
    manifest = Manifest.parse(manifest_bytes())
    message = SealedKeyMessage.parse(b("keys", "message_with_billing"))
    opened = open_key(message, kem_of("secret_service"), manifest_sha256=manifest.sha256, now=now)
    assert (opened.key_id, opened.billing) == (b("keys", "key_id"), b("billing", "payer"))
    released = ReleasedKey.parse(b("keys", "released"))
    assert released.key == worker_key(opened.key, worker=b("keys", "worker_id"), model="tiny")
    sealed_request = SealedRequest.cut(b("exchange", "request", "sealed"))
    share = open_share(
        sealed_request.sealed_share, kem_of("worker"), manifest_sha256=manifest.sha256
    )
    request = sealed_request.open(
        worker_key=released.key,
        share=share,
        headers=RequestHeaders.parse(VECTORS["exchange"]["request"]["headers"]),
        method="POST",
        path="/v1/completions",
    )
    assert (request.counter, request.content.body) == (7, b("exchange", "request", "body"))


@pytest.mark.parametrize(
    "name, kinds",
    [
        ("response", [Wait, Head, Data, Wait, Data, Data, Usage, Final, Bill]),
        ("whole", [Head, Data, Usage, Final]),
    ],
)
def test_the_package_reads_responses(name: str, kinds: list[type]) -> None:
    now = VECTORS["certificates"]["valid_at"]
    manifest = Manifest.parse(manifest_bytes())
    key = b("keys", "worker_key") + b("keys", "share")
    opener = ResponseOpener(key, b("exchange", "request", "salt"))
    events = opener.feed(b("exchange", name, "stream"))
    opener.finish()
    assert [type(event) for event in events] == kinds
    (final,) = [event for event in events if isinstance(event, Final)]
    verify_receipt(
        final.receipt,
        mesh_ca=b("certificates", "mesh_ca"),
        root_ca=b("certificates", "root_ca"),
        roles=manifest.model("tiny").roles,
        worker=b("keys", "worker_id"),
        request_sha256=sha256(b("exchange", "request", "sealed")),
        response_sha256=opener.response_sha256,
        manifest_sha256=manifest.sha256,
        model="tiny",
        model_root_hash=manifest.model("tiny").root_hash,
        usage=Usage("token", 7, 3),
        now=now,
    )
    for bill in (event for event in events if isinstance(event, Bill)):
        assert BillStatement.parse(bill.statement).billing == b("billing", "payer")


def test_the_package_reads_the_rest() -> None:
    refused = ResponseOpener(bytes(64), bytes(32)).feed(b("exchange", "clear_error", "stream"))
    assert refused == [ClearError("unknown-key", "no such key", "", "", "")]
    billing = billing_of(
        b("billing", "billing"),
        key_id=b("keys", "key_id"),
        manifest_sha256=sha256(manifest_bytes()),
    )
    assert billing == b("billing", "payer")
