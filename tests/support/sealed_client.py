"""A client that verifies nothing and makes keys as a test wants: to see what services refuse."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from typing import Any

import requests

from confide.protocol.frames import Data, Head
from confide.protocol.keyexchange import InferenceKey, seal_key, worker_key
from confide.protocol.sealed import RequestContent, RequestHeaders, RequestKey, RequestSealer
from confide.protocol.secret_service import KeyExchangeReply
from confide.protocol.share import seal_share
from confide.protocol.workers import ListedWorker, WorkerList, workers_query


class SealedClient:
    """Makes a key for each model that it asks, and seals to the first worker of the list."""

    def __init__(self, gateway: str, manifest: bytes) -> None:
        self.gateway = gateway
        self.manifest_sha256 = sha256(manifest).digest()
        self.key_for, self.share = cache(self._key_for), cache(self._share)
        self.counter = 0

    def upload(self, key: InferenceKey) -> requests.Response:
        """The answer of the secret service to a key."""
        offers = requests.get(f"{self.gateway}/confide/v1/key-exchange", timeout=60).content
        offer = KeyExchangeReply.parse(offers).services[0]
        message = seal_key(key, offer.kem_public_key, manifest_sha256=self.manifest_sha256)
        return requests.post(f"{self.gateway}/confide/v1/keys", data=message, timeout=60)

    def ask(self, path: str, model: str, fields: Mapping[str, object]) -> tuple[int, Any]:
        """Status and JSON of the opened answer to one sealed request."""
        body = json.dumps({"model": model, **fields}).encode()
        sealer, answer = self._send(path, model, body, self.key_for(model))
        opener = sealer.response_opener()
        events = list(opener.feed(answer))
        opener.finish()
        (status,) = [event.status for event in events if isinstance(event, Head)]
        text = b"".join(event.chunk for event in events if isinstance(event, Data))
        return status, json.loads(text)

    def post(self, path: str, model: str, body: bytes, key: InferenceKey) -> bytes:
        """The raw sealed response, or the clear error record, to one sealed request."""
        return self._send(path, model, body, key)[1]

    def worker(self, model: str) -> ListedWorker:
        """The first worker that the gateway lists."""
        shown = requests.get(self.gateway + workers_query([model]), timeout=60).content
        return WorkerList.parse(shown).workers[0]

    def _key_for(self, model: str) -> InferenceKey:
        key = InferenceKey(os.urandom(32), model, int(time.time()))
        self.upload(key).raise_for_status()
        return key

    def _share(self, kem_public_key: bytes) -> tuple[bytes, bytes]:
        share = os.urandom(32)
        return share, seal_share(share, kem_public_key, manifest_sha256=self.manifest_sha256)

    def _send(
        self, path: str, model: str, body: bytes, key: InferenceKey
    ) -> tuple[RequestSealer, bytes]:
        worker = self.worker(model)
        share, sealed_share = self.share(worker.kem_public_key)
        request_key = RequestKey(
            worker_key(key.key, worker=worker.worker, model=model),
            share,
            sha256(worker.kem_public_key).digest(),
            sealed_share,
        )
        sealer = RequestSealer(request_key, self.counter)
        self.counter += 1
        headers = RequestHeaders(model, key.key_id, self.manifest_sha256, worker.worker)
        sealed = sealer.seal(RequestContent(body), headers, method="POST", path=path)
        answer = requests.post(
            self.gateway + path, data=sealed, headers=headers.encode(), timeout=120
        )
        return sealer, answer.content
