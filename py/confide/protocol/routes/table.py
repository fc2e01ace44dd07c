"""The routes. Worker, proxy, gateway, docs/api.md and tests follow this table and no other list.

A sealed route is judged by the worker, after the request has opened. A client reads its own
requests by the same table, so that an app gets the error at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confide.protocol.routes.chat import CHAT
from confide.protocol.routes.completion import COMPLETION
from confide.protocol.routes.fields import Object
from confide.protocol.routes.json_text import parse_object

BODY = "the body of the request"


@dataclass(frozen=True)
class Route:
    """One method on one path. A route with a body is sealed; its body is a JSON object.

    `task` is what the model has to support. `input` and `output` are where its answers' usage
    stands.
    """

    method: str
    path: str
    body: Object | None = None
    task: str = ""
    input: str = "prompt_tokens"
    output: str = "completion_tokens"

    def read(self, body: bytes) -> dict[str, Any]:
        """The request for the engine, made of what this body says: no null is in it.

        Raises FormatError `bad-json`, `too-deep` or `too-large`, kinds.RequestFieldError.
        """
        assert self.body is not None
        request: dict[str, Any] = self.body.read(parse_object(body, BODY))
        return request


MODELS = Route("GET", "/v1/models")

ROUTES = (
    Route("POST", "/v1/chat/completions", CHAT, "chat"),
    Route("POST", "/v1/completions", COMPLETION, "completion"),
    MODELS,
)


def encode(request: Mapping[str, object]) -> bytes:
    """A request that `Route.read` made, as JSON."""
    return json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()


SEALED: Mapping[str, Route] = {route.path: route for route in ROUTES if route.body is not None}
"""The sealed routes, by their paths."""
