"""The encryption proxy: opens a sealed request, lets the engine answer it, seals the answer.

Rules:

* Plaintext exists only in this process and in the engine's. It is never logged, and never part of
  an error that leaves in the clear.
* Before a request has authenticated, the answer is one clear error record. After that, every answer
  is sealed, errors too.
* Requests share the engine's prefix cache only under one inference key, which one proxy has, or
  with one chosen salt (cache_salt.py).
* Events leave when they are complete, one frame for those that arrived together.
* There is no final frame without a receipt: if the node has lost its certificate, the response
  breaks off.
"""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from confide.errors import ConfideError, FormatError, PolicyError, UnavailableError
from confide.guest.worker.cache_salt import CacheSalts
from confide.guest.worker.completion import CompletionRequest, TokenCounts
from confide.guest.worker.keys import Keys
from confide.net import openai_error, sse
from confide.net.disconnect import DisconnectWatch
from confide.net.http_client import Upstream, UpstreamAnswer
from confide.protocol.frames import ResponseSealer, Usage, clear_error
from confide.protocol.manifest import Manifest
from confide.protocol.receipt import Statement, sign_receipt
from confide.protocol.sealed import OpenedRequest, RequestHeaders

MAX_ANSWER = 64 << 20
"""Bytes of an answer that is not streamed."""

_JSON = "application/json"


class Membership(Protocol):
    """What signs a receipt, and the manifest that this node was attested against."""

    @property
    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """The node's mesh key."""

    @property
    def certificate(self) -> bytes:
        """The certificate of that key, DER."""

    @property
    def manifest(self) -> Manifest:
        """The manifest that the node was attested against."""

    @property
    def models(self) -> tuple[str, ...]:
        """The models that the certificate names."""


@dataclass(frozen=True, repr=False)
class SealedCall:
    """One HTTP request as it arrived, with the headers that a sealed request needs."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class EncryptionProxy:
    """Stands between sealed requests and the engine on loopback. Thread-safe."""

    def __init__(
        self,
        *,
        membership: Callable[[], Membership],
        keys: Keys,
        engine: Callable[[str], Upstream],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`membership` raises UnavailableError while this node has no valid certificate. `engine`
        gets a model's name and raises it while that engine is not ready.
        """
        self._membership = membership
        self._keys = keys
        self._engine = engine
        self._salts = CacheSalts()
        self._clock = clock

    def respond(
        self, call: SealedCall, watch: DisconnectWatch, stack: ExitStack
    ) -> bytes | Iterator[bytes]:
        """The body of the response: whole, or in portions to send as they come.

        `stack` gets what must be closed at the end of the response. Raises FormatError if the
        headers are not those of a sealed request.
        """
        headers = RequestHeaders.parse(call.headers)
        try:
            served = self._membership().models
            if headers.model not in served:
                raise PolicyError(
                    "model-not-served",
                    "this worker does not serve this model",
                    expected=" or ".join(served) or "no model",
                    seen=headers.model,
                )
            opened = self._keys.open(
                call.body,
                key_id=headers.key_id,
                method=call.method,
                path=call.path,
                model=headers.model,
            )
        except ConfideError as error:
            return clear_error(error)
        return self._answer(call.path, headers, opened, watch, stack)

    def _answer(
        self,
        path: str,
        headers: RequestHeaders,
        opened: OpenedRequest,
        watch: DisconnectWatch,
        stack: ExitStack,
    ) -> bytes | Iterator[bytes]:
        response = _Response(opened, headers.model, self._receipt)
        try:
            request = CompletionRequest(
                opened.body,
                model=headers.model,
                cache_salt=partial(self._salts.for_request, headers.key_id),
            )
        except ConfideError as error:
            return response.error(400, error)
        try:
            answer = self._engine(headers.model).open(
                "POST",
                path,
                body=request.body,
                headers={"Content-Type": _JSON, "Accept": "*/*"},
                watch=watch,
            )
            stack.callback(answer.close)
            if request.streams and answer.content_type.startswith("text/event-stream"):
                return response.stream(answer, hide_usage=request.hides_usage)
            return response.whole(answer.status, answer.content_type, answer.read(MAX_ANSWER))
        except (UnavailableError, FormatError) as error:
            return response.error(502, error)

    def _receipt(
        self, opened: OpenedRequest, model: str, response_sha256: bytes, counts: TokenCounts
    ) -> bytes:
        # One snapshot, because key and certificate may be renewed at any time.
        membership = self._membership()
        manifest = membership.manifest
        statement = Statement(
            request_sha256=opened.request_sha256,
            response_sha256=response_sha256,
            manifest_sha256=manifest.sha256,
            model=model,
            model_root_hash=manifest.model(model).root_hash,
            time=int(self._clock()),
            usage=Usage(counts.prompt, counts.completion),
        )
        return sign_receipt(statement, membership.private_key, membership.certificate)


class _Response:
    """One sealed response."""

    def __init__(
        self,
        opened: OpenedRequest,
        model: str,
        receipt: Callable[[OpenedRequest, str, bytes, TokenCounts], bytes],
    ) -> None:
        self._opened = opened
        self._model = model
        self._receipt = receipt
        self._sealer: ResponseSealer = opened.response_sealer()
        self._counts = TokenCounts()

    def error(self, status: int, error: ConfideError) -> bytes:
        body = json.dumps({"error": openai_error.from_error(error, status)}).encode()
        return self.whole(status, _JSON, body)

    def whole(self, status: int, content_type: str, body: bytes) -> bytes:
        self._counts.read_body(body)
        return self._sealer.head(status, content_type) + self._sealer.data(body) + self._end()

    def stream(self, answer: UpstreamAnswer, *, hide_usage: bool) -> Iterator[bytes]:
        sealer, counts = self._sealer, self._counts
        yield sealer.head(answer.status, answer.content_type)
        buffer = sse.EventBuffer()
        try:
            for piece in answer.pieces():
                events = counts.read_events(buffer.feed(piece), hide=hide_usage)
                if events:
                    yield sealer.data(events)
            if buffer.rest:
                raise UnavailableError("engine-lost", "the engine ended in the middle of an event")
        except (UnavailableError, FormatError) as error:
            yield sealer.data(sse.error_event(openai_error.from_error(error, 502)))
        try:
            yield self._end()
        except ConfideError as error:
            raise ConnectionResetError(errno.ECONNRESET, error.code) from error

    def _end(self) -> bytes:
        counts, sealer = self._counts, self._sealer
        receipt = self._receipt(self._opened, self._model, sealer.response_sha256, counts)
        return sealer.usage(counts.prompt, counts.completion) + sealer.final(receipt)
