"""Errors in the shape that OpenAI clients read: {"message", "type", "param", "code"}."""

from __future__ import annotations

from confide.errors import ConfideError
from confide.protocol.routes.kinds import RequestFieldError
from measure.printable import printable

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


def from_error(error: ConfideError, status: int) -> dict[str, object]:
    """The inner object; the caller wraps it as {"error": ...}.

    Apps print it, and it may hold the words of a peer: so it is escaped.
    """
    return {
        "message": printable(str(error)),
        "type": _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
        "param": error.pointer if isinstance(error, RequestFieldError) else None,
        "code": printable(error.code),
    }
