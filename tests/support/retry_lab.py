"""A client, and workers that open what it sends, in one process and without HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from confide.client.proxy.answer import ReportedError
from confide.client.proxy.completions import Completions, Reply
from confide.client.proxy.handshake import Established
from confide.client.proxy.session import Session
from confide.client.receipts import keep_nothing
from confide.errors import ConfideError, UnavailableError
from confide.guest.worker.keys import Keys
from confide.net.disconnect import DisconnectWatch
from confide.protocol.frames import clear_error
from confide.protocol.keyexchange import worker_key
from confide.protocol.receipt import Statement, sign_receipt
from confide.protocol.sealed import OpenedRequest, RequestHeaders
from confide.protocol.secret_service import ReleasedKey
from confide.protocol.usage import TOKEN, Usage
from confide.protocol.workers import WorkerList
from tests.support.simulated_machine import NOW, Clock
from tests.support.small_service import SmallService

PATH = "/v1/chat/completions"
BODY = b'{"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}'
STREAM = BODY[:-1] + b', "stream": true}'


@dataclass
class FakeAnswer:
    """Stands for an UpstreamAnswer."""

    body: bytes
    status: int = 200
    content_type: str = "application/confide-frames"
    breaks: ConfideError | None = None

    def header(self, _: str) -> str:
        return ""

    def read(self, limit: int) -> bytes:
        assert len(self.body) <= limit
        return self.body

    def pieces(self) -> Iterator[bytes]:
        yield self.body
        if self.breaks:
            raise self.breaks

    def close(self) -> None:
        pass


@dataclass
class Lab:
    """A client, and workers that open what it sends; `script` says how each attempt ends."""

    service: SmallService
    script: list[Any] = field(default_factory=list)
    sent: list[tuple[RequestHeaders, bytes]] = field(default_factory=list)
    usage: Usage = field(default_factory=lambda: Usage(TOKEN, 3, 4))

    def __post_init__(self) -> None:
        self.monotonic = Clock(1000.0)
        self.handshakes = 0
        session = Session(self._handshake, clock=self.monotonic)
        session.establish()
        self.completions = Completions(
            session,
            self,  # type: ignore[arg-type]
            self.service.gateway,
            reserve_receipt=keep_nothing,
            clock=self.service.clock,
        )
        self.completions._keys._monotonic = self.monotonic
        self.completions._workers._monotonic = self.monotonic
        self.know_workers()

    def _handshake(self) -> Established:
        self.handshakes += 1
        return self.service.established

    def know_workers(self) -> None:
        """The workers that the service has now."""
        self.workers = {
            node.membership().worker_id: (
                node,
                Keys(self._release, node.kem, clock=node._monotonic),
            )
            for node in self.service.workers
        }

    def ask(self, body: bytes = BODY) -> Reply:
        with ExitStack() as stack:
            reply = self.completions.complete(PATH, body, DisconnectWatch(), stack)
            if not isinstance(reply.body, bytes):
                reply = Reply(reply.status, reply.content_type, b"".join(reply.body))
            return reply

    def tried(self) -> list[bytes]:
        return [headers.worker for headers, _ in self.sent]

    def open(
        self, method: str, path: str, *, body: bytes, headers: dict[str, str], watch: object
    ) -> FakeAnswer:
        """Stands for `Upstream.open`."""
        parsed = RequestHeaders.parse(headers)
        self.sent.append((parsed, body))
        step = self.script.pop(0) if self.script else "good"
        if isinstance(step, ReportedError):
            return FakeAnswer(clear_error(step))
        if isinstance(step, ConfideError):
            raise step
        if isinstance(step, int):
            encoded = WorkerList(self.service.listed()).encode()
            return FakeAnswer(encoded if step == 421 else b"{}", step, "application/cbor")
        opened = self._keys(parsed)[1].open(body, parsed, method=method, path=path)
        return self._answer(opened, parsed, step)

    def _keys(self, headers: RequestHeaders) -> Any:
        self._asked_for = headers
        return self.workers[headers.worker]

    def _release(self, key_id: bytes) -> ReleasedKey:
        (secrets,) = self.service.secrets
        key = secrets._keys[key_id].key
        return ReleasedKey(
            worker_key(key, worker=self._asked_for.worker, model="tiny"), "tiny", 3600
        )

    def _answer(self, opened: OpenedRequest, headers: RequestHeaders, step: str) -> FakeAnswer:
        member = self._keys(headers)[0].membership()
        sealer = opened.response_sealer()
        if step.startswith("stream"):
            sent = sealer.wait() + sealer.head(200, "text/event-stream")
            sent += sealer.data(b"data: 1\n\ndata: [DONE]\n\n")
        else:
            sent = sealer.wait() + sealer.whole(200, "application/json", b'{"answer": 1}')
        if step.endswith("breaks"):
            return FakeAnswer(sent, breaks=UnavailableError("peer-lost", "gone"))
        statement = Statement(
            opened.request_sha256,
            sealer.response_sha256,
            self.service.manifest.sha256,
            "tiny",
            self.service.manifest.model("tiny").root_hash,
            NOW,
            self.usage,
        )
        receipt = sign_receipt(statement, member.private_key, member.certificate)
        return FakeAnswer(sent + sealer.usage(self.usage) + sealer.final(receipt))
