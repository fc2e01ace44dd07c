"""What the worker does to a request of the OpenAI protocol, and what it reads of the answer.

The engine does not get the client's bytes, nor a changed copy of them: `Route.read` makes a request
of what is in the table, and it is encoded anew.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable

from confide.errors import PolicyError, VerificationError
from confide.guest.worker.cache_salt import is_of_one_user
from confide.net import sse
from confide.protocol.routes.table import Route, encode
from confide.protocol.usage import TOKEN, Usage, require_within, token_bounds


class CompletionRequest:
    """A completion or chat request. `body` is what the engine gets."""

    def __init__(
        self,
        route: Route,
        plaintext: bytes,
        *,
        model: str,
        max_model_len: int | None,
        cache_salt: Callable[[str | None], str],
    ) -> None:
        """Check a request against its route, and against the model that its headers name.

        `max_model_len` is the manifest's for the model. `cache_salt` gets the client's own salt, or
        None, and returns the engine's. Raises what `Route.read` and that raise, and PolicyError
        "model-mismatch".
        """
        request = route.read(plaintext)
        if request["model"] != model:
            raise PolicyError(
                "model-mismatch",
                "the body of the request names another model than its header",
                expected=model,
            )
        chosen = request.get("cache_salt")
        self.bounds = token_bounds(plaintext, request, max_model_len)
        self.shows_cached = is_of_one_user(chosen)
        self.streams = request.get("stream", False)
        options = request.get("stream_options", {})
        asked = options.get("include_usage", False)
        self.hides_usage = self.streams and not asked
        if self.hides_usage:
            # The receipt needs the counts, once. The client gets them only if it asked.
            request["stream_options"] = {"include_usage": True}
        request["cache_salt"] = cache_salt(chosen)
        self.body = encode(request)


class TokenCounts:
    """Token counts as the engine reports them, zero before that.

    The engine is not trusted with a channel to the outside, so counts that the request does not
    allow count as zero and raise VerificationError "bad-usage".
    """

    def __init__(self, route: Route, bounds: Usage, *, shows_cached: bool) -> None:
        """`shows_cached`: whether answers say how much of the prompt was cached."""
        self._route = route
        self._bounds = bounds
        self._shows_cached = shows_cached
        self._held: tuple[bytes, dict[str, object]] | None = None
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
        """Take the counts from complete events. Returns the events, without usage if `hide`.

        The engine's usage event is its last, and has what belongs into the last one. So if it is
        hidden, each event that ends a choice is held until the next one has come.
        """
        # In a JSON string the quotes would be escaped, so this finds keys only.
        if b'"usage"' not in events and not (hide and (self._held or _FINISH.search(events))):
            return events
        kept = []
        for event in sse.split(events):
            answer = sse.payload(event)
            found, changed = self._read(answer)
            event = sse.event(answer) if changed else event
            if not hide or not isinstance(answer, dict):
                kept += [self.rest(), event]
            elif found and answer.get("choices") == []:
                kept.append(self._finish(answer))
            else:
                kept.append(self.rest())
                if _FINISH.search(event):
                    self._held = event, answer
                else:
                    kept.append(event)
        return b"".join(kept)

    def rest(self) -> bytes:
        """The event that is held, or nothing. To be called at the end, too."""
        event, self._held = self._held[0] if self._held else b"", None
        return event

    def _finish(self, last: dict[str, object]) -> bytes:
        fingerprint = last.get("system_fingerprint")
        if self._held and isinstance(fingerprint, str):
            answer = self._held[1] | {"system_fingerprint": fingerprint}
            self._held = sse.event(answer), answer
        return self.rest()

    def _read(self, answer: object) -> tuple[bool, bool]:
        """Take the counts from an answer or event: (there were some, the answer was changed)."""
        usage = answer.get("usage") if isinstance(answer, dict) else None
        if not isinstance(usage, dict):
            return False, False
        counted = Usage(
            TOKEN, _count(usage.get(self._route.input)), _count(usage.get(self._route.output))
        )
        try:
            require_within(counted, self._bounds)
        except VerificationError:
            self.usage = Usage(TOKEN, 0, 0)
            raise
        self.usage = counted
        details = usage.get("prompt_tokens_details")
        if self._shows_cached or not isinstance(details, dict):
            return True, False
        told = [name for name in _CACHED if name in details]
        for name in told:
            del details[name]
        return True, bool(told)


_CACHED = ("cached_tokens", "created_cache_tokens")
_FINISH = re.compile(rb'"finish_reason": ?"')


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < 2**53 else 0
