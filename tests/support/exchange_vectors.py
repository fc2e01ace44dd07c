"""The vectors of keys, requests, responses, receipts and bills, for make_protocol_vectors.py."""

from __future__ import annotations

from hashlib import sha256
from unittest.mock import patch

from confide.errors import PolicyError
from confide.protocol.bill import (
    BILL_LABEL,
    BILLING_LABEL,
    Bill,
    Billing,
    BillStatement,
    billing_of,
)
from confide.protocol.frames import clear_error
from confide.protocol.keyexchange import (
    InferenceKey,
    SealedKeyMessage,
    open_key,
    seal_key,
    worker_id_of,
    worker_key,
)
from confide.protocol.receipt import SIGNATURE_LABEL, Receipt, Statement
from confide.protocol.sealed import (
    RequestContent,
    RequestHeaders,
    RequestKey,
    RequestSealer,
    SealedRequest,
)
from confide.protocol.secret_service import ReleasedKey
from confide.protocol.share import open_share, seal_share
from confide.protocol.usage import TOKEN, Usage
from tests.support.vector_inputs import (
    NOW,
    Vector,
    kem,
    kem_vector,
    manifest,
    octets,
    private_key,
    sign,
    spki,
)


def keys(old: Vector | None) -> Vector:
    """A model's key on its way to a worker, and a share. HPKE's randomness is in what it sealed."""
    digest = manifest().sha256
    worker = worker_id_of(private_key("worker").public_key())
    share = octets("share")
    service_kem, worker_kem = kem("secret service"), kem("worker")
    plain = InferenceKey(octets("inference key"), "tiny", NOW)
    payer = _billing(plain.key_id)
    paid = InferenceKey(octets("inference key"), "tiny", NOW, payer.encode())
    if old is None:
        public = service_kem.public_bytes
        old = {
            name: seal_key(key, public, manifest_sha256=digest).hex()
            for name, key in (("message", plain), ("message_with_billing", paid))
        } | {
            "sealed_share": seal_share(share, worker_kem.public_bytes, manifest_sha256=digest).hex()
        }
    for name, expected in (("message", b""), ("message_with_billing", _payer())):
        message = SealedKeyMessage.parse(bytes.fromhex(old[name]))
        opened = open_key(message, service_kem, manifest_sha256=digest, now=NOW)
        if (opened.key, opened.billing) != (plain.key, expected):
            raise SystemExit(f"protocol.json's {name} holds another key: remove it, run again")
    sealed_share = bytes.fromhex(old["sealed_share"])
    if open_share(sealed_share, worker_kem, manifest_sha256=digest) != share:
        raise SystemExit("protocol.json's sealed share holds another: remove it, run again")
    released = worker_key(plain.key, worker=worker, model="tiny")
    return {
        "secret_service": kem_vector("secret service"),
        "worker": kem_vector("worker"),
        "worker_spki": spki(private_key("worker")).hex(),
        "worker_id": worker.hex(),
        "key": plain.key.hex(),
        "key_id": plain.key_id.hex(),
        "model": plain.model,
        "issued": plain.issued,
        "message": old["message"],
        "message_with_billing": old["message_with_billing"],
        "worker_key": released.hex(),
        "released": ReleasedKey(released, "tiny", 3600).encode().hex(),
        "released_with_billing": ReleasedKey(released, "tiny", 3600, _payer()).encode().hex(),
        "share": share.hex(),
        "sealed_share": sealed_share.hex(),
    }


def _billing(key_id: bytes) -> Billing:
    key = private_key("payer")
    return Billing(spki(key), sign(key, BILLING_LABEL + key_id + manifest().sha256))


def _payer() -> bytes:
    return sha256(spki(private_key("payer"))).digest()


def billing(key_id: bytes) -> Vector:
    """Who pays for requests under the key."""
    made = _billing(key_id).encode()
    payer = billing_of(made, key_id=key_id, manifest_sha256=manifest().sha256)
    return {
        "private_scalar": octets("payer").hex(),
        "public_key": spki(private_key("payer")).hex(),
        "billing": made.hex(),
        "payer": payer.hex(),
    }


def exchange(certs: Vector, key: Vector) -> Vector:
    """A request and both kinds of response to it: a stream with a bill, and a whole answer."""
    place = {"method": "POST", "path": "/v1/completions"}
    content = RequestContent(b'{"model": "tiny", "prompt": "Hello", "stream": true}')
    key_id, worker_id = bytes.fromhex(key["key_id"]), bytes.fromhex(key["worker_id"])
    headers = RequestHeaders("tiny", key_id, manifest().sha256, worker_id)
    request_key = RequestKey(
        bytes.fromhex(key["worker_key"]),
        bytes.fromhex(key["share"]),
        kem("worker").sha256,
        bytes.fromhex(key["sealed_share"]),
    )
    with patch("os.urandom", return_value=octets("request salt")[:24]):
        sealer = RequestSealer(request_key, 7)
    sealed = sealer.seal(content, headers, **place)
    opened = SealedRequest.cut(sealed).open(
        worker_key=request_key.worker_key, share=request_key.share, headers=headers, **place
    )
    usage = Usage(TOKEN, 7, 3)
    with patch("os.urandom", return_value=octets("response salt")):
        response = opened.response_sealer()
    chunks = [b'data: {"text": "Hi"}\n\n', b"x" * 600, b""]
    stream = response.wait() + response.head(200, "text/event-stream")
    stream += response.data(chunks[0]) + response.wait()
    stream += b"".join(map(response.data, chunks[1:])) + response.usage(usage)
    statement = _statement(sealer.request_sha256, response.response_sha256, usage)
    receipt = _receipt(certs, statement)
    bill_statement = BillStatement(
        _payer(), sealer.request_sha256, manifest().sha256, "tiny", NOW, usage
    ).encode()
    signature = sign(private_key("worker"), BILL_LABEL + bill_statement)
    bill = Bill(bill_statement, signature, bytes.fromhex(certs["worker"]))
    stream += response.final(receipt) + response.bill(bill)
    with patch("os.urandom", return_value=octets("another response salt")):
        second = opened.response_sealer()
    body = b'{"choices": [{"text": "' + b"Hi " * 400 + b'"}]}'
    whole = second.whole(200, "application/json", body) + second.usage(usage)
    whole_receipt = _receipt(
        certs, _statement(sealer.request_sha256, second.response_sha256, usage)
    )
    return {
        "request": {
            **place,
            "headers": headers.encode(),
            "content_type": content.content_type,
            "pace_ms": content.pace_ms,
            "body": content.body.hex(),
            "salt": ((7).to_bytes(8, "big") + octets("request salt")[:24]).hex(),
            "sealed": sealed.hex(),
        },
        "response": {
            "salt": octets("response salt").hex(),
            "status": 200,
            "content_type": "text/event-stream",
            "chunks": [chunk.hex() for chunk in chunks],
            "usage": {"unit": "token", "input": 7, "output": 3},
            "receipt": receipt.hex(),
            "statement": statement.hex(),
            "bill": bill.encode().hex(),
            "bill_statement": bill_statement.hex(),
            "stream": stream.hex(),
        },
        "whole": {
            "salt": octets("another response salt").hex(),
            "status": 200,
            "content_type": "application/json",
            "body": body.hex(),
            "receipt": whole_receipt.hex(),
            "stream": (whole + second.final(whole_receipt)).hex(),
        },
        "clear_error": {
            "code": "unknown-key",
            "message": "no such key",
            "stream": clear_error(PolicyError("unknown-key", "no such key")).hex(),
        },
    }


def _statement(request_sha256: bytes, response_sha256: bytes, usage: Usage) -> bytes:
    return Statement(
        request_sha256=request_sha256,
        response_sha256=response_sha256,
        manifest_sha256=manifest().sha256,
        model="tiny",
        model_root_hash=octets("root hash"),
        time=NOW,
        usage=usage,
    ).encode()


def _receipt(certs: Vector, statement: bytes) -> bytes:
    signature = sign(private_key("worker"), SIGNATURE_LABEL + statement)
    return Receipt(statement, signature, bytes.fromhex(certs["worker"])).encode()
