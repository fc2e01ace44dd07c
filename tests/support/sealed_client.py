"""A client that verifies nothing and chooses what its key allows: to test what services refuse."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import requests

from confide.protocol.frames import Data, Head
from confide.protocol.keyexchange import InferenceKey, seal_key
from confide.protocol.sealed import RequestHeaders, RequestSealer
from confide.protocol.secret_service import KeyExchangeReply


class SealedClient:
    """Exchanges a key for `key_models` through a gateway and sends sealed requests under it."""

    def __init__(self, gateway: str, manifest: bytes, *, key_models: tuple[str, ...]) -> None:
        self.gateway = gateway
        offer = requests.get(f"{gateway}/confide/v1/key-exchange", timeout=60)
        key = InferenceKey(os.urandom(32), key_models, int(time.time()))
        sealed = seal_key(
            key,
            KeyExchangeReply.parse(offer.content).kem_public_key,
            manifest_sha256=sha256(manifest).digest(),
        )
        self.key, self.key_id = key.key, sealed.key_id
        self.accepted = requests.post(
            f"{gateway}/confide/v1/keys",
            data=sealed.message,
            headers={"Content-Type": "application/cbor"},
            timeout=60,
        )

    def ask(self, path: str, model: str, fields: Mapping[str, object]) -> tuple[int, Any]:
        """Status and JSON of the opened answer to one sealed request."""
        sealer = RequestSealer(self.key, self.key_id)
        body = json.dumps({"model": model, **fields}).encode()
        sealed = sealer.seal(method="POST", path=path, model=model, body=body)
        headers = RequestHeaders(model, self.key_id).encode()
        answer = requests.post(self.gateway + path, data=sealed, headers=headers, timeout=120)
        opener = sealer.response_opener()
        events = list(opener.feed(answer.content))
        opener.finish()
        (status,) = [event.status for event in events if isinstance(event, Head)]
        text = b"".join(event.chunk for event in events if isinstance(event, Data))
        return status, json.loads(text)

    def post(self, path: str, model: str, body: bytes) -> bytes:
        """The raw sealed response, or the clear error record, to one sealed request."""
        sealed = RequestSealer(self.key, self.key_id).seal(
            method="POST", path=path, model=model, body=body
        )
        headers = RequestHeaders(model, self.key_id).encode()
        return requests.post(self.gateway + path, data=sealed, headers=headers, timeout=120).content
