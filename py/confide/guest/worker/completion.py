"""The parts of the OpenAI protocol that the worker reads: the model, caches and token counts.

The engine does not get the client's bytes but a new encoding of what was checked here. So odd JSON
(double keys, huge numbers) cannot mean one thing here and another there.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import NoReturn

from confide.errors import FormatError, PolicyError, VerificationError
from confide.guest.worker.cache_salt import is_of_one_user
from confide.net import sse
from confide.protocol.usage import TOKEN, Usage, require_within, token_bounds


class CompletionRequest:
    """A completion or chat request. `body` is what the engine gets."""

    def __init__(
        self,
        plaintext: bytes,
        *,
        model: str,
        max_model_len: int | None,
        cache_salt: Callable[[object], str],
    ) -> None:
        """Check a request against the model that its headers name.

        `max_model_len` is the manifest's for the model. `cache_salt` gets the client's own salt, or
        None, and returns the engine's. Raises FormatError "bad-json" and what that raises,
        PolicyError "model-mismatch".
        """
        request = _parse(plaintext)
        self.bounds = token_bounds(plaintext, request, max_model_len)
        self.shows_cached = is_of_one_user(request.get("cache_salt"))
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
    """Token counts as the engine reports them, zero before that.

    The engine is not trusted with a channel to the outside, so counts that the request does not
    allow count as zero and raise VerificationError "bad-usage".
    """

    def __init__(self, bounds: Usage, *, shows_cached: bool) -> None:
        """`shows_cached`: whether answers say how much of the prompt was cached."""
        self._bounds = bounds
        self._shows_cached = shows_cached
        self.usage = Usage(TOKEN, 0, 0)

    def read_body(self, body: bytes) -> bytes:
        """Take the counts from a whole answer. Returns the answer, without cached tokens."""
        answer = None
        if b'"usage"' in body:
            with contextlib.suppress(ValueError, RecursionError):
                answer = json.loads(body)
        found, changed = self._read(answer)
        return json.dumps(answer).encode() if found and changed else body

    def read_events(self, events: bytes, *, hide: bool) -> bytes:
        """Take the counts from complete events. Returns the events, without usage if `hide`."""
        # In a JSON string the quotes would be escaped, so this finds keys only.
        if b'"usage"' not in events:
            return events
        kept = []
        for event in sse.split(events):
            answer = sse.payload(event)
            found, changed = self._read(answer)
            if hide and found and isinstance(answer, dict) and answer.get("choices") == []:
                continue
            kept.append(b"data: " + json.dumps(answer).encode() + b"\n\n" if changed else event)
        return b"".join(kept)

    def _read(self, answer: object) -> tuple[bool, bool]:
        """Take the counts from an answer or event: (there were some, the answer was changed)."""
        usage = answer.get("usage") if isinstance(answer, dict) else None
        if not isinstance(usage, dict):
            return False, False
        counted = Usage(
            TOKEN, _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        )
        try:
            require_within(counted, self._bounds)
        except VerificationError:
            self.usage = Usage(TOKEN, 0, 0)
            raise
        self.usage = counted
        details = usage.get("prompt_tokens_details")
        if self._shows_cached or not isinstance(details, dict) or "cached_tokens" not in details:
            return True, False
        del details["cached_tokens"]
        return True, True


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < 2**53 else 0
