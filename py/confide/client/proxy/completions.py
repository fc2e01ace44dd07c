"""One request of an app: seal it, send it, open its answer, and trust no byte too early.

* An answer that is not streamed reaches the app only after its receipt is verified.
* A stream's events go on as they come, because their frames authenticate them. Its end (the event
  ``[DONE]``) goes on only after the receipt. So an app that saw the end has the whole answer.
* A stream that breaks ends with one error event and a cut connection, never with ``[DONE]``.
"""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from confide.client.proxy.handshake import Established, gateway_error
from confide.client.proxy.session import Session
from confide.client.receipts import Keep, ReserveReceipt
from confide.errors import (
    ConfideError,
    FormatError,
    PolicyError,
    UnavailableError,
    VerificationError,
)
from confide.net import openai_error, sse
from confide.net.disconnect import DisconnectWatch
from confide.net.http_client import Upstream, UpstreamAnswer
from confide.protocol.frames import ClearError, Data, Final, Head, ResponseOpener, Usage
from confide.protocol.model import Model
from confide.protocol.sealed import RESPONSE_TYPE, RequestHeaders, RequestSealer
from confide.verify.receipt import verify_receipt

MAX_BODY = 8 << 20
"""Bytes of an app's request at most."""

MAX_ANSWER = 64 << 20
"""Bytes of an answer that is not streamed."""

MAX_REFUSAL = 1 << 16
"""Bytes of a gateway's error at most."""

_TASKS = {"/v1/chat/completions": "chat", "/v1/completions": "completion"}
PATHS = tuple(_TASKS)


class ReportedError(ConfideError):
    """An error that arrived in the clear: the service or anybody on the way wrote it."""


class GatewayRefusal(ConfideError):
    """The gateway answered with an HTTP error: `status`."""

    def __init__(self, status: int, error: UnavailableError) -> None:
        super().__init__(
            error.code, error.message, expected=error.expected, seen=error.seen, next=error.next
        )
        self.status = status


@dataclass(frozen=True, repr=False)
class Reply:
    """What the app gets; `body` is whole, or comes in portions."""

    status: int
    content_type: str
    body: bytes | Iterator[bytes]


@dataclass(frozen=True, repr=False)
class _Request:
    path: str
    model: str
    body: bytes
    shard_key: str


class Completions:
    """Seals and opens. Safe to use from any thread."""

    def __init__(
        self,
        session: Session,
        gateway: Upstream,
        *,
        api_key: str,
        reserve_receipt: ReserveReceipt,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`reserve_receipt` is asked before each request is sent."""
        self._session = session
        self._gateway = gateway
        self._authorization = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._reserve_receipt = reserve_receipt
        self._clock = clock

    def complete(
        self, path: str, body: bytes, shard_key: str, watch: DisconnectWatch, stack: ExitStack
    ) -> Reply:
        """Answer a request of an app.

        Args:
            path: One of `PATHS`.
            body: The app's JSON, at most `MAX_BODY` bytes.
            shard_key: Requests with the same one go to the same worker; may be "".
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
        wanted = _model_of(body)
        established = self._session.current()
        request = _Request(path, wanted, body, shard_key)
        try:
            return self._once(established, request, watch, stack)
        except ReportedError as error:
            if error.code != "unknown-key":
                raise
        # The secret service or the worker restarted: try once more, with a new key.
        return self._once(self._session.replace(established), request, watch, stack)

    def _once(
        self,
        established: Established,
        request: _Request,
        watch: DisconnectWatch,
        stack: ExitStack,
    ) -> Reply:
        model = established.manifest.model(request.model)
        path = request.path
        if _TASKS[path] not in model.tasks:
            raise PolicyError(
                "unknown-task",
                "this model does not support this kind of request",
                expected=" or ".join(model.tasks),
                seen=_TASKS[path],
            )
        sealer = RequestSealer(established.key, established.key_id)
        sealed = sealer.seal(method="POST", path=path, model=model.name, body=request.body)
        headers = RequestHeaders(model.name, established.key_id, request.shard_key).encode()
        headers |= self._authorization
        with ExitStack() as attempt:
            keep = attempt.enter_context(self._reserve_receipt(established.attested))
            answer = self._gateway.open("POST", path, body=sealed, headers=headers, watch=watch)
            attempt.callback(answer.close)
            if answer.status != 200 or answer.content_type != RESPONSE_TYPE:
                raise _refusal(answer, f"POST {path}")
            opened = _Answer(self, established, model, sealer, keep, answer)
            head = opened.head()
            if head.status == 200 and head.content_type.startswith("text/event-stream"):
                stack.push(attempt.pop_all())
                return Reply(200, head.content_type, opened.events())
            return Reply(head.status, head.content_type, opened.whole())

    def verify(
        self,
        established: Established,
        model: Model,
        sealer: RequestSealer,
        keep: Keep,
        opener: ResponseOpener,
        usage: Usage | None,
        receipt: bytes,
    ) -> None:
        """Check a receipt and keep it. Raises VerificationError, FormatError, UnavailableError."""
        verify_receipt(
            receipt,
            mesh_ca=established.mesh_ca,
            root_ca=established.root_ca,
            roles=model.roles,
            request_sha256=sealer.request_sha256,
            response_sha256=opener.response_sha256,
            manifest_sha256=established.manifest.sha256,
            model=model.name,
            model_root_hash=model.root_hash,
            usage=usage,
            now=int(self._clock()),
        )
        keep(sealer.request_sha256, receipt)


class _Answer:
    """One sealed answer on its way in."""

    def __init__(
        self,
        completions: Completions,
        established: Established,
        model: Model,
        sealer: RequestSealer,
        keep: Keep,
        answer: UpstreamAnswer,
    ) -> None:
        self._completions = completions
        self._established = established
        self._model = model
        self._sealer = sealer
        self._keep = keep
        self._opener = sealer.response_opener()
        self._records = self._read(answer)

    def _read(self, answer: UpstreamAnswer) -> Iterator[list[Head | Data]]:
        # Ends after the verified receipt, with the stream's end checked, or raises.
        opener = self._opener
        usage: Usage | None = None
        receipt = b""
        try:
            for piece in answer.pieces():
                portion: list[Head | Data] = []
                for event in opener.feed(piece):
                    if isinstance(event, (Head, Data)):
                        portion.append(event)
                    elif isinstance(event, Usage):
                        usage = event
                    elif isinstance(event, Final):
                        receipt = event.receipt
                    else:
                        raise _reported(event)
                if portion:
                    yield portion
            opener.finish()
            self._completions.verify(
                self._established, self._model, self._sealer, self._keep, opener, usage, receipt
            )
        except FormatError as error:
            # The answer was altered, not the app's request malformed: a worker sends no such bytes.
            raise _altered(error) from error

    def head(self) -> Head:
        portion = next(self._records, None)
        assert portion is not None and isinstance(portion[0], Head)  # the opener sees to it
        self._first = portion[1:]
        return portion[0]

    def _data(self) -> Iterator[bytes]:
        yield b"".join(event.chunk for event in self._first if isinstance(event, Data))
        for portion in self._records:
            yield b"".join(event.chunk for event in portion if isinstance(event, Data))

    def whole(self) -> bytes:
        parts = []
        size = 0
        for part in self._data():
            size += len(part)
            if size > MAX_ANSWER:
                raise UnavailableError(
                    "answer-too-large",
                    "the answer is too large",
                    expected=f"at most {MAX_ANSWER} bytes",
                )
            parts.append(part)
        return b"".join(parts)

    def events(self) -> Iterator[bytes]:
        buffer = sse.EventBuffer()
        held = b""
        try:
            for part in self._data():
                events = held + buffer.feed(part)
                end = sse.before_done(events)
                held = events[end:]
                if end:
                    yield events[:end] if held else events
            yield held + buffer.rest
        except ConfideError as error:
            yield sse.error_event(openai_error.from_error(error, 502))
            # Quietly cut by the server: clients that know no error event see a broken transfer.
            raise ConnectionResetError(errno.ECONNRESET, error.code) from error


def _model_of(body: bytes) -> str:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            "bad-json", "the body of the request is not JSON", expected="a JSON object"
        ) from error
    model = request.get("model") if isinstance(request, dict) else None
    if not isinstance(model, str):
        raise FormatError(
            "bad-request",
            "the request names no model",
            expected='a JSON object with a text field "model"',
        )
    return model


def _reported(error: ClearError) -> ReportedError:
    return ReportedError(
        error.code, error.message, expected=error.expected, seen=error.seen, next=error.next
    )


def _altered(error: FormatError) -> VerificationError:
    return VerificationError(
        error.code, error.message, expected=error.expected, seen=error.seen, next=error.next
    )


def _refusal(answer: UpstreamAnswer, what: str) -> GatewayRefusal:
    try:
        body = answer.read(MAX_REFUSAL)
    except FormatError:
        body = b""
    status = answer.status if 400 <= answer.status < 600 else 502
    return GatewayRefusal(status, gateway_error(answer.status, body, what))
