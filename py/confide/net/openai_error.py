"""Errors in the shape that OpenAI clients read: {"message", "type", "param", "code"}."""

from __future__ import annotations

from confide.errors import ConfideError

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


def from_error(error: ConfideError, status: int) -> dict[str, object]:
    """The inner object; the caller wraps it as {"error": ...}."""
    return {
        "message": str(error),
        "type": _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
        "param": None,
        "code": error.code,
    }
