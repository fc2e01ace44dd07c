"""The encryption proxy: opens a sealed request, lets the engine answer it, seals the answer.

Rules:

* Plaintext exists only in this process and in the engine's. It is never logged, and never part of
  an error that leaves in the clear.
* Before a request has authenticated, the answer is one clear error record. After that, every answer
  is sealed, errors too.
* Requests share the engine's prefix cache only under one inference key, which one proxy has, or
  with one chosen salt (cache_salt.py).
* Events leave when they are complete, one frame for those that arrived together. While the engine
  is silent, wait frames say that this worker is there.
* There is no final frame without a receipt: if the node has lost its certificate, the response
  breaks off.
"""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from confide.errors import (
    ConfideError,
    FormatError,
    PolicyError,
    UnavailableError,
    VerificationError,
)
from confide.guest.worker.cache_salt import CacheSalts
from confide.guest.worker.completion import CompletionRequest, TokenCounts
from confide.guest.worker.keys import Keys
from confide.net import openai_error, sse
from confide.net.disconnect import DisconnectWatch
from confide.net.http_client import Pending, Upstream, UpstreamAnswer
from confide.protocol.frames import MAX_ANSWER, WAIT_SECONDS, ResponseSealer, clear_error
from confide.protocol.manifest import Manifest
from confide.protocol.receipt import Statement, sign_receipt
from confide.protocol.sealed import JSON_TYPE, OpenedRequest, RequestContent, RequestHeaders
from confide.protocol.usage import TOKEN, Usage

_ENGINE_ERRORS = (UnavailableError, FormatError, VerificationError)
_NOTHING = Usage(TOKEN, 0, 0)


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
    def worker_id(self) -> bytes:
        """How requests name this machine, 32 bytes."""

    @property
    def models(self) -> tuple[str, ...]:
        """The models that the certificate names."""


@dataclass(frozen=True, repr=False)
class SealedCall:
    """One HTTP request as it arrived, with the headers that a sealed request needs.

    `read_body` is called once, after the headers have passed: until then the body is not here.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    read_body: Callable[[], bytes]


class EncryptionProxy:
    """Stands between sealed requests and the engine on loopback. Thread-safe."""

    def __init__(
        self,
        *,
        membership: Callable[[], Membership],
        keys: Keys,
        engine: Callable[[str], Upstream],
        clock: Callable[[], float] = time.time,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        """`membership` raises UnavailableError while this node has no valid certificate. `engine`
        gets a model's name and raises it while that engine is not ready.
        """
        self._membership = membership
        self._keys = keys
        self._engine = engine
        self._salts = CacheSalts()
        self._clock = clock
        self._wait_seconds = wait_seconds

    def respond(self, call: SealedCall, watch: DisconnectWatch) -> bytes | Iterator[bytes]:
        """The body of the response: whole, or in portions to send as they come.

        Raises FormatError if the headers are not those of a sealed request, and what reading the
        body raises.
        """
        headers = RequestHeaders.parse(call.headers)
        try:
            membership = self._membership()
            _require_ours(headers, membership)
            self._keys.require(headers)
        except ConfideError as error:
            return clear_error(error)
        body = call.read_body()
        try:
            opened = self._keys.open(body, headers, method=call.method, path=call.path)
        except ConfideError as error:
            return clear_error(error)
        return self._answer(call.path, headers, opened, membership.manifest, watch)

    def _answer(
        self,
        path: str,
        headers: RequestHeaders,
        opened: OpenedRequest,
        manifest: Manifest,
        watch: DisconnectWatch,
    ) -> bytes | Iterator[bytes]:
        response = _Response(opened, headers.model, self._receipt, self._wait_seconds)
        try:
            _require_supported(opened.content)
            request = CompletionRequest(
                opened.content.body,
                model=headers.model,
                max_model_len=manifest.model(headers.model).engine.max_model_len,
                cache_salt=partial(self._salts.for_request, headers.key_id),
            )
        except ConfideError as error:
            return response.error(400, error)
        try:
            pending = self._engine(headers.model).begin(
                "POST",
                path,
                body=request.body,
                headers={"Content-Type": JSON_TYPE, "Accept": "*/*"},
                watch=watch,
            )
        except _ENGINE_ERRORS as error:
            return response.error(502, error)
        return response.begin(pending, request)

    def _receipt(
        self, opened: OpenedRequest, model: str, response_sha256: bytes, usage: Usage
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
            usage=usage,
        )
        return sign_receipt(statement, membership.private_key, membership.certificate)


class _Response:
    """One sealed response."""

    def __init__(
        self,
        opened: OpenedRequest,
        model: str,
        receipt: Callable[[OpenedRequest, str, bytes, Usage], bytes],
        wait_seconds: float,
    ) -> None:
        self._opened = opened
        self._model = model
        self._receipt = receipt
        self._wait_seconds = wait_seconds
        self._sealer: ResponseSealer = opened.response_sealer()
        self._begun = False
        self._whole_at_once = False

    def error(self, status: int, error: ConfideError) -> bytes:
        """A whole answer that is our own error. Raises ConfideError without a membership."""
        return self._error(status, error) + self._end(_NOTHING)

    def begin(self, pending: Pending, request: CompletionRequest) -> bytes | Iterator[bytes]:
        """The engine's answer: whole if it comes before a wait frame is due, else in portions.

        A whole one travels with its length and in one piece, which saves 0.3 ms on the way. Raises
        ConfideError without a membership.
        """
        portions = self._portions(pending, request)
        try:
            first = next(portions)
        except _NoReceiptError as error:
            raise error.reason from error
        if self._whole_at_once:
            portions.close()
            return first
        self._begun = True
        return _resume(first, portions)

    def _portions(
        self, pending: Pending, request: CompletionRequest
    ) -> Generator[bytes, None, None]:
        counts = TokenCounts(request.bounds, shows_cached=request.shows_cached)
        with ExitStack() as stack:
            stack.callback(pending.close)
            try:
                while not pending.ready(self._wait_seconds):
                    yield self._sealer.wait()
                answer = pending.answer()
                stack.pop_all()
                stack.callback(answer.close)
                if request.streams and answer.content_type.startswith("text/event-stream"):
                    yield from self._stream(answer, counts, hide_usage=request.hides_usage)
                else:
                    yield from self._whole(answer, counts)
            except _ENGINE_ERRORS as error:
                # Nothing but wait frames was sent: _stream answers its own errors.
                self._whole_at_once = not self._begun
                yield self._error(502, error) + self._last(_NOTHING)

    def _error(self, status: int, error: ConfideError) -> bytes:
        body = json.dumps({"error": openai_error.from_error(error, status)}).encode()
        return self._sealer.whole(status, JSON_TYPE, body)

    def _whole(self, answer: UpstreamAnswer, counts: TokenCounts) -> Iterator[bytes]:
        parts, size = [], 0
        for piece in answer.pieces(self._wait_seconds):
            if not piece:
                yield self._sealer.wait()
            parts.append(piece)
            size += len(piece)
            if size > MAX_ANSWER:
                raise FormatError(
                    "answer-too-large",
                    "the engine's answer is too large",
                    expected=f"at most {MAX_ANSWER} bytes",
                )
        body = counts.read_body(b"".join(parts))
        sealed = self._sealer.whole(answer.status, answer.content_type, body)
        self._whole_at_once = not self._begun
        yield sealed + self._last(counts.usage)

    def _stream(
        self, answer: UpstreamAnswer, counts: TokenCounts, *, hide_usage: bool
    ) -> Iterator[bytes]:
        sealer = self._sealer
        yield sealer.head(answer.status, answer.content_type)
        buffer = sse.EventBuffer()
        try:
            for piece in answer.pieces(self._wait_seconds):
                if not piece:
                    yield sealer.wait()
                    continue
                events = counts.read_events(buffer.feed(piece), hide=hide_usage)
                if events:
                    yield sealer.data(events)
            if buffer.rest:
                raise UnavailableError("engine-lost", "the engine ended in the middle of an event")
        except _ENGINE_ERRORS as error:
            yield sealer.data(sse.error_event(openai_error.from_error(error, 502)))
        yield self._last(counts.usage)

    def _last(self, usage: Usage) -> bytes:
        try:
            return self._end(usage)
        except ConfideError as error:
            raise _NoReceiptError(error) from error

    def _end(self, usage: Usage) -> bytes:
        sealer = self._sealer
        receipt = self._receipt(self._opened, self._model, sealer.response_sha256, usage)
        return sealer.usage(usage) + sealer.final(receipt)


class _NoReceiptError(Exception):
    """There is no receipt, and so no end, for `reason`."""

    def __init__(self, reason: ConfideError) -> None:
        super().__init__(reason.code)
        self.reason = reason


def _resume(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    """Without a receipt the answer breaks off: what was sent cannot be taken back."""
    try:
        yield first
        yield from rest
    except _NoReceiptError as error:
        raise ConnectionResetError(errno.ECONNRESET, error.reason.code) from error


def _require_ours(headers: RequestHeaders, membership: Membership) -> None:
    """Raise PolicyError for a request that is for another mesh, machine or model."""
    if headers.manifest_sha256 != membership.manifest.sha256:
        raise PolicyError(
            "wrong-manifest",
            "the request is for another manifest",
            expected=membership.manifest.sha256.hex(),
            seen=headers.manifest_sha256.hex(),
        )
    if headers.worker != membership.worker_id:
        raise PolicyError(
            "wrong-worker",
            "the request is for another worker",
            expected=membership.worker_id.hex(),
            seen=headers.worker.hex(),
        )
    if headers.model not in membership.models:
        raise PolicyError(
            "model-not-served",
            "this worker does not serve this model",
            expected=" or ".join(membership.models) or "no model",
            seen=headers.model,
        )


def _require_supported(content: RequestContent) -> None:
    if content.content_type != JSON_TYPE:
        raise FormatError(
            "bad-content-type",
            "the body of the request has a type that this path does not take",
            expected=JSON_TYPE,
            seen=ascii(content.content_type[:80]),
        )
    if content.pace_ms:
        raise FormatError(
            "bad-pace",
            "this worker does not send frames on a clock",
            expected="pace_ms 0",
            seen=str(content.pace_ms),
        )
