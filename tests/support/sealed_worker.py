"""An encryption proxy in this process, and a client whose key it can get."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field

from flask.testing import FlaskClient

from confide.errors import PolicyError, UnavailableError
from confide.guest.mesh.join import Membership
from confide.guest.worker.app import create_app
from confide.guest.worker.encryption_proxy import EncryptionProxy
from confide.guest.worker.keys import Keys
from confide.net.http_client import Upstream
from confide.protocol.frames import ClearError, Data, Final, Head, ResponseOpener, Usage
from confide.protocol.sealed import RequestHeaders, RequestSealer
from confide.protocol.secret_service import ReleasedKey

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
    opener.finish()
    return opened


@dataclass
class Worker:
    """One worker and the keys that its secret service has."""

    engine: str
    membership: Membership
    secrets: dict[bytes, ReleasedKey] = field(default_factory=dict)
    joined: bool = True

    def __post_init__(self) -> None:
        engine = Upstream(self.engine)
        proxy = EncryptionProxy(
            membership=self._membership, keys=Keys(self._fetch), engine=lambda _: engine
        )
        self.states = dict.fromkeys(self.membership.models, "ready")
        self.app = create_app(proxy, role="worker-cpu", states=lambda: self.states)

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
    """A client whose key the secret service has."""

    worker: Worker
    models: tuple[str, ...] = ("tiny",)
    expires_in: int = 3600

    def __post_init__(self) -> None:
        self.key, self.key_id = os.urandom(32), os.urandom(32)
        self.worker.secrets[self.key_id] = ReleasedKey(self.key, self.models, self.expires_in)

    def seal(
        self, body: bytes, *, path: str = CHAT, model: str = "tiny"
    ) -> tuple[bytes, RequestSealer]:
        sealer = RequestSealer(self.key, self.key_id)
        return sealer.seal(method="POST", path=path, model=model, body=body), sealer

    def headers(self, model: str = "tiny") -> dict[str, str]:
        return RequestHeaders(model, self.key_id).encode()

    def ask(self, body: bytes, *, path: str = CHAT, model: str = "tiny") -> Opened:
        sealed, sealer = self.seal(body, path=path, model=model)
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
