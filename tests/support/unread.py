"""A request whose body must not be read."""

from __future__ import annotations

import io
from typing import Any


class _Unread(io.RawIOBase):
    def read(self, _size: int = -1) -> bytes:
        raise AssertionError("the body was read")


def unread_body(size: int = 1 << 20) -> dict[str, Any]:
    """Arguments for Flask's test client: it announces so many bytes, and reading one is a crash."""
    return {"environ_overrides": {"CONTENT_LENGTH": str(size), "wsgi.input": _Unread()}}
