"""Requests as JSON, and what reading them says."""

from __future__ import annotations

import json
from typing import Any

from confide.errors import FormatError
from confide.protocol.routes.kinds import RequestFieldError
from confide.protocol.routes.table import SEALED, Route

CHAT, COMPLETION = SEALED["/v1/chat/completions"], SEALED["/v1/completions"]
HELLO = {"role": "user", "content": "hello"}
LEAST: dict[str, dict[str, Any]] = {
    CHAT.path: {"model": "tiny", "messages": [HELLO]},
    COMPLETION.path: {"model": "tiny", "prompt": "hello"},
}
"""The smallest request of each route."""


def read(route: Route = CHAT, **fields: Any) -> dict[str, Any]:
    """What the engine gets of the smallest request and these fields."""
    return route.read(json.dumps(LEAST[route.path] | fields).encode())


def refusal(route: Route = CHAT, **fields: Any) -> str:
    """CODE and the field's pointer, or CODE alone."""
    return refusal_of(json.dumps(LEAST[route.path] | fields).encode(), route)


def refusal_of(body: bytes, route: Route = CHAT) -> str:
    try:
        route.read(body)
    except RequestFieldError as error:
        return f"{error.code} {error.pointer}"
    except FormatError as error:
        return error.code
    return ""
