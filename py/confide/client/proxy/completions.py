"""One request of an app: choose a worker, seal to it, send, open the answer.

Until the head of an answer has opened, a request may be sent again, sealed anew: to another worker,
or to the same one after the connection broke. It is sent three times at most. answer.py says what
the app gets, and when.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from confide.client.proxy.answer import ReportedError, SealedAnswer, altered
from confide.client.proxy.gateway import Gateway, gateway_error
from confide.client.proxy.handshake import Established
from confide.client.proxy.keys import ModelKey, ModelKeys
from confide.client.proxy.prompt import Prompt
from confide.client.proxy.session import Session
from confide.client.proxy.workers import VerifiedWorker, Workers
from confide.client.receipts import Keep, ReserveReceipt
from confide.errors import (
    ConfideError,
    FormatError,
    PolicyError,
    UnavailableError,
    VerificationError,
)
from confide.net.disconnect import DisconnectWatch
from confide.net.http_client import StaleConnectionError, Upstream, UpstreamAnswer
from confide.protocol.error_answer import MAX_ERROR
from confide.protocol.frames import RESPONSE_TYPE, STREAM, Head
from confide.protocol.model import Model
from confide.protocol.opener import ResponseOpener
from confide.protocol.routes.table import SEALED
from confide.protocol.sealed import RequestContent, RequestHeaders, RequestKey, RequestSealer
from confide.protocol.usage import Usage, require_within, token_bounds
from confide.protocol.workers import LIST_HEADER, MAX_LIST, WRONG_WORKER
from confide.verify.receipt import verify_receipt

MAX_BODY = 8 << 20
"""Bytes of an app's request at most."""

MAX_WORKERS = 3
"""To how many workers one request goes at most, and how often it is sent."""

_GATEWAY_TROUBLE = (502, 503, 504)


class GatewayRefusal(ConfideError):
    """The gateway answered with an HTTP error: `status`, to ask again in `retry_after` seconds."""

    def __init__(self, status: int, error: UnavailableError) -> None:
        super().__init__(
            error.code,
            error.message,
            expected=error.expected,
            seen=error.seen,
            next=error.next,
            retry_after=error.retry_after,
        )
        self.status = status


@dataclass(frozen=True, repr=False)
class Reply:
    """What the app gets; `body` is whole, or comes in portions."""

    status: int
    content_type: str
    body: bytes | Iterator[bytes]


class Completions:
    """Seals and opens. Safe to use from any thread."""

    def __init__(
        self,
        session: Session,
        upstream: Upstream,
        gateway: Gateway,
        *,
        reserve_receipt: ReserveReceipt,
        min_workers: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Both `upstream` and `gateway` are the gateway: for requests, and for small calls.

        `reserve_receipt` is asked before each request is sent. `min_workers` is the fewest workers
        that the gateway has to show for the model of a request.
        """
        self._session = session
        self._upstream = upstream
        self._headers = gateway.headers
        self._keys = ModelKeys(gateway, clock=clock)
        self._workers = Workers(gateway, minimum=min_workers, clock=clock)
        self._reserve_receipt = reserve_receipt
        self._clock = clock
        self._cache_secret = os.urandom(32)

    def complete(self, path: str, body: bytes, watch: DisconnectWatch, stack: ExitStack) -> Reply:
        """Answer a request of an app.

        Args:
            path: That of a sealed route.
            body: The app's JSON, at most `MAX_BODY` bytes.
            watch: Ends the call when the app hangs up.
            stack: Gets what must be closed after the answer.

        Raises:
            FormatError: The app's request is malformed.
            PolicyError: The manifest does not allow the app's request.
            UnavailableError: The service is not verified, the gateway is unreachable, or the
                receipt cannot be kept.
            GatewayRefusal: The gateway refused.
            ReportedError: The service reported an error in the clear.
            VerificationError: The answer is not authentic.
        """
        prompt = Prompt.parse(SEALED[path], body)
        model = _allowed(self._session.current(), prompt)
        sealable = prompt.salted(self._cache_secret)
        tried: set[bytes] = set()
        last: ConfideError | None = None
        for _ in range(MAX_WORKERS):
            try:
                established, key, worker = self._chosen(model.name, prompt, tried)
            except UnavailableError as error:
                # What the last worker said explains more than that no other is left.
                if last is None or error.code == "too-few-workers":
                    raise
                raise last from error
            attempt = _Attempt(established, model, key, worker, prompt, sealable)
            with ExitStack() as this:
                try:
                    head, opened = self._once(attempt, watch, this)
                except (ReportedError, GatewayRefusal, UnavailableError) as error:
                    if watch.gone or not self._may_go_on(attempt, error, tried):
                        raise
                    last = error
                    continue
                # The head has opened: from here on, nothing is sent again.
                streams = head.content_type.startswith("text/event-stream")
                if head.status == 200 and head.length == STREAM and streams:
                    stack.push(this.pop_all())
                    return Reply(200, head.content_type, opened.events())
                return Reply(head.status, head.content_type, opened.whole())
        assert last is not None
        raise last

    def forget(self) -> None:
        """Drop keys and shares that are too old. To be called now and then."""
        self._keys.forget()
        self._workers.forget_expired()

    def _chosen(
        self, model: str, prompt: Prompt, tried: Collection[bytes]
    ) -> tuple[Established, ModelKey, VerifiedWorker]:
        """Whom to send to, under which key. Raises as `complete`."""
        established = self._session.current()
        try:
            try:
                return established, *self._key_and_worker(established, model, prompt, tried)
            except (UnavailableError, VerificationError) as error:
                if not self._shows_another_mesh(error, model) or not self._session.again(
                    established
                ):
                    raise
            established = self._session.current()
            return established, *self._key_and_worker(established, model, prompt, tried)
        except FormatError as error:
            raise altered(error) from error

    def _key_and_worker(
        self, established: Established, model: str, prompt: Prompt, tried: Collection[bytes]
    ) -> tuple[ModelKey, VerifiedWorker]:
        key = self._keys.get(established, model)
        return key, self._workers.choose(established, model, prompt.conversation, tried)

    def _shows_another_mesh(self, error: ConfideError, model: str) -> bool:
        """Whether the gateway shows machines, and none that the verified coordinator certified."""
        if error.code == "no-verified-worker":
            return self._workers.are_strangers(model)
        return error.code == "no-secret-service" and isinstance(error, VerificationError)

    def _may_go_on(self, attempt: _Attempt, error: ConfideError, tried: set[bytes]) -> bool:
        """Whether another worker may get the request after this error, and what to change first."""
        model, worker = attempt.model.name, attempt.worker
        if isinstance(error, StaleConnectionError):
            # The way to the gateway is at fault, not the worker. If the worker has the request all
            # the same, it answers this one too: it is sealed anew, so it is no replay.
            return True
        if isinstance(error, ReportedError) and error.code == "unknown-key":
            # Secret services or the worker were started anew. The same worker may get it again.
            try:
                self._keys.replace(attempt.established, attempt.key)
            except ConfideError:
                return False
            return True
        tried.add(worker.id)
        if isinstance(error, ReportedError):
            if error.code == "kem-key-gone":
                self._workers.forget(model)
                tried.discard(worker.id)
            return True
        if isinstance(error, GatewayRefusal):
            return error.status in _GATEWAY_TROUBLE
        return error.code == "peer-lost"

    def _once(
        self, attempt: _Attempt, watch: DisconnectWatch, stack: ExitStack
    ) -> tuple[Head, SealedAnswer]:
        """Send to one worker; return when the head of its answer has opened."""
        worker, path = attempt.worker, attempt.prompt.route.path
        share, sealed_share = worker.share
        worker_key, counter = attempt.key.next_for(worker.id)
        key = RequestKey(worker_key, share, worker.kem_sha256, sealed_share)
        sealer = RequestSealer(key, counter)
        headers = RequestHeaders(
            attempt.model.name, attempt.key.key_id, worker.manifest_sha256, worker.id
        )
        content = RequestContent(attempt.body)
        sealed = sealer.seal(content, headers, method="POST", path=path)
        keep = stack.enter_context(self._reserve_receipt(attempt.established.attested))
        stack.enter_context(self._workers.busy(worker))
        answer = self._upstream.open(
            "POST", path, body=sealed, headers=headers.encode() | self._headers, watch=watch
        )
        stack.callback(answer.close)
        if answer.status == WRONG_WORKER:
            raise self._wrong_worker(attempt, answer)
        if answer.status != 200 or answer.content_type != RESPONSE_TYPE:
            raise _refusal(answer, f"POST {path}")
        self._workers.note(attempt.model.name, answer.header(LIST_HEADER))
        opened = SealedAnswer(
            sealer.response_opener(),
            answer,
            lambda opener, usage, receipt: self._verify(
                attempt, keep, sealer.request_sha256, opener, usage, receipt
            ),
        )
        return opened.head(), opened

    def _wrong_worker(self, attempt: _Attempt, answer: UpstreamAnswer) -> GatewayRefusal:
        """Take the new list of a gateway that cannot use the worker; the error says so."""
        try:
            self._workers.take(attempt.established, attempt.model.name, answer.read(MAX_LIST))
        except FormatError as error:
            raise altered(error) from error
        reason = UnavailableError(
            "gateway-refused",
            "the gateway cannot use this worker now",
            seen=f"HTTP {WRONG_WORKER} for {attempt.worker.id.hex()}",
            next="try again later",
        )
        # To an app, 421 would say something about its own request.
        return GatewayRefusal(503, reason)

    def _verify(
        self,
        attempt: _Attempt,
        keep: Keep,
        request_sha256: bytes,
        opener: ResponseOpener,
        usage: Usage | None,
        receipt: bytes,
    ) -> None:
        """Check a receipt and keep it. Raises VerificationError, FormatError, UnavailableError."""
        established, model = attempt.established, attempt.model
        statement = verify_receipt(
            receipt,
            mesh_ca=established.mesh_ca,
            root_ca=established.root_ca,
            roles=model.roles,
            worker=attempt.worker.id,
            request_sha256=request_sha256,
            response_sha256=opener.response_sha256,
            manifest_sha256=established.manifest.sha256,
            model=model.name,
            model_root_hash=model.root_hash,
            usage=usage,
            now=int(self._clock()),
        )
        bounds = token_bounds(attempt.body, attempt.prompt.request, model.engine.max_model_len)
        require_within(statement.usage, bounds)
        keep(request_sha256, receipt)


@dataclass(frozen=True, repr=False)
class _Attempt:
    """One request to one worker. `body` is the app's, with a salt for caches."""

    established: Established
    model: Model
    key: ModelKey
    worker: VerifiedWorker
    prompt: Prompt
    body: bytes


def _allowed(established: Established, prompt: Prompt) -> Model:
    """The model of a request. Raises PolicyError for one that the manifest does not allow."""
    model = established.manifest.model(prompt.model)
    task = prompt.route.task
    if task not in model.tasks:
        raise PolicyError(
            "unknown-task",
            "this model does not support this kind of request",
            expected=" or ".join(model.tasks),
            seen=task,
        )
    return model


def _refusal(answer: UpstreamAnswer, what: str) -> GatewayRefusal:
    try:
        body = answer.read(MAX_ERROR)
    except FormatError:
        body = b""
    status = answer.status if 400 <= answer.status < 600 else 502
    wait = answer.header("Retry-After")
    return GatewayRefusal(status, gateway_error(answer.status, body, what, wait))
