"""One sealed answer on its way in: opened frame by frame, and checked at its end.

* An answer that is not streamed reaches the app only after its receipt is verified.
* A stream's events go on as they come, because their frames authenticate them. Its end (the event
  ``[DONE]``) goes on only after the receipt. So an app that saw the end has the whole answer.
* A wait frame of the worker becomes a comment between two events, so that an app's time limit for a
  silent connection is no limit for an answer. An answer that is not streamed comes in silence: its
  status is not known before its end.
* A stream that breaks ends with one error event and a cut connection, never with ``[DONE]``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from confide.errors import ConfideError, FormatError, UnavailableError, VerificationError
from confide.net import openai_error, sse
from confide.net.http_client import UpstreamAnswer
from confide.protocol.bill import Bill
from confide.protocol.frames import MAX_ANSWER, ClearError, Data, Final, Head, Wait
from confide.protocol.opener import ResponseOpener
from confide.protocol.usage import Usage


class ReportedError(ConfideError):
    """An error that arrived in the clear: the service or anybody on the way wrote it."""


class SealedAnswer:
    """Opens one answer. `head` comes first, then `events` or `whole`."""

    def __init__(
        self,
        opener: ResponseOpener,
        answer: UpstreamAnswer,
        verify: Callable[[ResponseOpener, Usage | None, bytes], None],
    ) -> None:
        """`verify` gets the usage in the clear, if there was one, and the receipt. It may raise."""
        self._opener = opener
        self._verify = verify
        self._records = self._read(answer)
        self._first: list[Head | Data] = []

    def head(self) -> Head:
        """The head. Until it is there, the request may be sent to another worker.

        Raises ReportedError for an error in the clear, VerificationError, UnavailableError.
        """
        portion = next(portion for portion in self._records if portion)
        assert isinstance(portion[0], Head)  # the opener sees to it
        self._first = portion[1:]
        return portion[0]

    def whole(self) -> bytes:
        """The answer, verified. Raises VerificationError, UnavailableError."""
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
        """The events of a stream, as they come."""
        buffer = sse.EventBuffer()
        held = b""
        try:
            for part in self._data():
                if not part:
                    yield sse.WAITING
                    continue
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

    def _read(self, answer: UpstreamAnswer) -> Iterator[list[Head | Data]]:
        # Ends after the verified receipt, with the stream's end checked, or raises. An empty
        # portion says that the worker is there.
        opener = self._opener
        usage: Usage | None = None
        receipt = b""
        try:
            for piece in answer.pieces():
                portion: list[Head | Data] = []
                waits = False
                for event in opener.feed(piece):
                    match event:
                        case Head() | Data():
                            portion.append(event)
                        case Usage():
                            usage = event
                        case Final():
                            receipt = event.receipt
                        case Wait():
                            waits = True
                        case Bill():
                            pass
                        case ClearError():
                            raise _reported(event)
                if portion or waits:
                    yield portion
            opener.finish()
            self._verify(opener, usage, receipt)
        except FormatError as error:
            # The answer was altered, not the app's request malformed: a worker sends no such bytes.
            raise altered(error) from error

    def _data(self) -> Iterator[bytes]:
        if self._first:
            yield b"".join(event.chunk for event in self._first if isinstance(event, Data))
        for portion in self._records:
            yield b"".join(event.chunk for event in portion if isinstance(event, Data))


def altered(error: FormatError) -> VerificationError:
    """The error for malformed bytes that came from the service, not from the app."""
    return VerificationError(
        error.code, error.message, expected=error.expected, seen=error.seen, next=error.next
    )


def _reported(error: ClearError) -> ReportedError:
    return ReportedError(
        error.code, error.message, expected=error.expected, seen=error.seen, next=error.next
    )
