"""An encryption proxy in this process, and a client whose key it can get."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any

from flask.testing import FlaskClient

from confide.errors import PolicyError, UnavailableError
from confide.guest.mesh.join import Membership, Node
from confide.guest.worker.app import create_app
from confide.guest.worker.encryption_proxy import EncryptionProxy
from confide.guest.worker.keys import Keys
from confide.net.http_client import Upstream
from confide.protocol.frames import ClearError, Data, Final, Head, Wait
from confide.protocol.keyexchange import key_id_of, worker_key
from confide.protocol.opener import ResponseOpener
from confide.protocol.sealed import RequestContent, RequestHeaders, RequestKey, RequestSealer
from confide.protocol.secret_service import ReleasedKey
from confide.protocol.share import seal_share
from confide.protocol.usage import Usage

CHAT = "/v1/chat/completions"
HELLO = b'{"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}'
STREAM = HELLO[:-1] + b', "stream": true}'


@dataclass
class Opened:
    """A sealed answer, opened."""

    head: Head | None = None
    body: bytes = b""
    usage: Usage | None = None
    receipt: bytes = b""
    error: ClearError | None = None
    waits: int = 0


def open_answer(opener: ResponseOpener, answer: bytes) -> Opened:
    opened = Opened()
    for event in opener.feed(answer):
        match event:
            case Head():
                opened.head = event
            case Data():
                opened.body += event.chunk
            case Usage():
                opened.usage = event
            case Final():
                opened.receipt = event.receipt
            case ClearError():
                opened.error = event
            case Wait():
                opened.waits += 1
    opener.finish()
    return opened


@dataclass
class Worker:
    """One worker, and the keys that the secret services would release to it."""

    engine: str
    node: Node
    secrets: dict[bytes, ReleasedKey] = field(default_factory=dict)
    joined: bool = True
    wait_seconds: float = 15.0

    def __post_init__(self) -> None:
        engine = Upstream(self.engine)
        self.membership = self.node.membership()
        self.keys = Keys(self._fetch, self.node.kem)
        proxy = EncryptionProxy(
            membership=self._membership,
            keys=self.keys,
            engine=lambda _: engine,
            wait_seconds=self.wait_seconds,
        )
        self.states = dict.fromkeys(self.membership.models, "ready")
        self.app = create_app(
            proxy, role="worker-cpu", membership=self._membership, states=lambda: self.states
        )

    @property
    def http(self) -> FlaskClient:
        return self.app.test_client()

    def _membership(self) -> Membership:
        if not self.joined:
            raise UnavailableError("not-attested", "no membership")
        return self.membership

    def _fetch(self, key_id: bytes) -> ReleasedKey:
        try:
            return self.secrets[key_id]
        except KeyError:
            raise PolicyError("unknown-key", "no such key") from None


@dataclass
class Client:
    """A client whose key the secret services have, with a share for one worker."""

    worker: Worker
    model: str = "tiny"
    expires_in: int = 3600

    def __post_init__(self) -> None:
        member = self.worker.membership
        self.key, self.share, self.counter = os.urandom(32), os.urandom(32), 0
        self.key_id = key_id_of(self.key)
        self.worker_key = worker_key(self.key, worker=member.worker_id, model=self.model)
        self.manifest_sha256 = member.manifest.sha256
        self.sealed_share = seal_share(
            self.share, member.kem_public_key, manifest_sha256=self.manifest_sha256
        )
        self.kem_sha256 = hashlib.sha256(member.kem_public_key).digest()
        self.worker.secrets[self.key_id] = ReleasedKey(self.worker_key, self.model, self.expires_in)

    def request_headers(self, model: str = "tiny") -> RequestHeaders:
        member = self.worker.membership
        return RequestHeaders(model, self.key_id, self.manifest_sha256, member.worker_id)

    def seal(
        self,
        body: bytes,
        *,
        path: str = CHAT,
        model: str = "tiny",
        content_type: str = "application/json",
        pace_ms: int = 0,
    ) -> tuple[bytes, RequestSealer]:
        key = RequestKey(self.worker_key, self.share, self.kem_sha256, self.sealed_share)
        sealer = RequestSealer(key, self.counter)
        self.counter += 1
        content = RequestContent(body, content_type, pace_ms)
        headers = self.request_headers(model)
        return sealer.seal(content, headers, method="POST", path=path), sealer

    def headers(self, model: str = "tiny") -> dict[str, str]:
        return self.request_headers(model).encode()

    def send(self, sealed: bytes, sealer: RequestSealer, *, path: str = CHAT) -> Opened:
        """Send a sealed request, which may be an old one, and open the answer."""
        # Buffered: read to the end and closed, as a server does.
        answer = self.worker.http.post(path, data=sealed, headers=self.headers(), buffered=True)
        assert answer.status_code == 200
        return open_answer(sealer.response_opener(), answer.data)

    def ask(self, body: bytes, *, path: str = CHAT, model: str = "tiny", **content: Any) -> Opened:
        sealed, sealer = self.seal(body, path=path, model=model, **content)
        headers = self.headers(model)
        # Buffered: read to the end and closed, as a server does.
        answer = self.worker.http.post(path, data=sealed, headers=headers, buffered=True)
        assert answer.status_code == 200
        assert answer.content_type == "application/confide-frames"
        return open_answer(sealer.response_opener(), answer.data)


def sealed_error(opened: Opened) -> tuple[int, str]:
    assert opened.head is not None and opened.receipt
    error = json.loads(opened.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return opened.head.status, error["code"]
