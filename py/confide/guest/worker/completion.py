"""The parts of the OpenAI protocol that the worker reads: the model and the token counts.

The engine does not get the client's bytes but a new encoding of what was checked here. So odd JSON
(double keys, huge numbers) cannot mean one thing here and another there.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import NoReturn

from confide.errors import FormatError, PolicyError
from confide.net import sse


class CompletionRequest:
    """A completion or chat request. `body` is what the engine gets."""

    def __init__(
        self, plaintext: bytes, *, model: str, cache_salt: Callable[[object], str]
    ) -> None:
        """Check a request against the model that its headers name.

        `cache_salt` gets the client's own salt, or None, and returns the engine's. Raises
        FormatError "bad-json" and what that raises, PolicyError "model-mismatch".
        """
        request = _parse(plaintext)
        if request.get("model") != model:
            raise PolicyError(
                "model-mismatch",
                "the body of the request names another model than its header",
                expected=model,
                seen=ascii(request.get("model"))[:80],
            )
        request["cache_salt"] = cache_salt(request.get("cache_salt"))
        self.streams = request.get("stream") is True
        options = request.get("stream_options")
        asked = isinstance(options, dict) and bool(options.get("include_usage"))
        self.hides_usage = self.streams and not asked
        if self.hides_usage:
            # The receipt needs the counts. The client gets them only if it asked.
            given = options if isinstance(options, dict) else {}
            request["stream_options"] = {**given, "include_usage": True}
        self.body = json.dumps(request, separators=(",", ":")).encode()


def _parse(plaintext: bytes) -> dict[str, object]:
    def refuse(number: str) -> NoReturn:
        raise ValueError(f"{number} is not JSON")

    try:
        request = json.loads(plaintext.decode(), parse_constant=refuse)
        json.dumps(request, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise FormatError("bad-json", "the body of the request is not JSON") from error
    if not isinstance(request, dict):
        raise FormatError(
            "bad-json", "the body of the request is not a JSON object", seen=type(request).__name__
        )
    return request


class TokenCounts:
    """Token counts as the engine reports them, zero before that."""

    def __init__(self) -> None:
        self.prompt = 0
        self.completion = 0

    def read(self, answer: object) -> bool:
        """Take the counts from an answer or one of its events, if it has any."""
        usage = answer.get("usage") if isinstance(answer, dict) else None
        if not isinstance(usage, dict):
            return False
        self.prompt = _count(usage.get("prompt_tokens"))
        self.completion = _count(usage.get("completion_tokens"))
        return True

    def read_body(self, body: bytes) -> None:
        """Take the counts from a whole answer."""
        with contextlib.suppress(ValueError, RecursionError):
            self.read(json.loads(body))

    def read_events(self, events: bytes, *, hide: bool) -> bytes:
        """Take the counts from complete events. Returns the events, without usage if `hide`."""
        # In a JSON string the quotes would be escaped, so this finds keys only.
        if b'"usage"' not in events:
            return events
        kept = []
        for event in sse.split(events):
            answer = sse.payload(event)
            found = self.read(answer)
            if not (hide and found and isinstance(answer, dict) and answer.get("choices") == []):
                kept.append(event)
        return b"".join(kept)


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < 2**53 else 0
