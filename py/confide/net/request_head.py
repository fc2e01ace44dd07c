"""What the server reads from the start of a request before a thread has it.

Only two things: how many bytes the request has, and which threads answer it. gunicorn parses the
request afterwards, and its reading counts. So everything unusual here is "unknown", never an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

MAX_HEAD = 32 * 1024
"""Bytes of a request's head."""

SMALL_BODY = 64 * 1024
"""A body up to here is awaited without a thread."""

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r")
_SURPRISE = re.compile(rb"\n(?:transfer-encoding|expect)[ \t]*:")


class Lane(Enum):
    """Which threads answer a request. None of them waits for another."""

    HEALTH = "health"
    APART = "apart"
    """What clients and machines ask about the service itself."""
    MAIN = "main"
    LARGE = "large"
    """A thread waits for their bodies: so they take none of those that small requests need."""
    TLS = "tls"


@dataclass(frozen=True)
class RequestHead:
    """`size` are the bytes of head and body, or inf. `announced` are the body's, -1 if unknown."""

    lane: Lane
    size: float
    head_size: int
    announced: int

    @property
    def awaited(self) -> float:
        """Bytes to wait for before a thread gets the request."""
        return (
            self.size if self.announced <= SMALL_BODY and self.size < math.inf else self.head_size
        )


def read_head(data: bytes | bytearray, apart: Collection[str]) -> RequestHead | None:
    """The head of the request that these bytes begin with, None while it is incomplete.

    `apart` are requests of the lane of that name, as "POST /path", and all GET, if their body is
    small and its size known.
    """
    end = data.find(_END)
    if end < 0:
        return None
    head = bytes(data[: end + len(_END)])
    small = head.lower()
    found = _LENGTH.findall(small)
    announced, size = -1, math.inf
    if not _SURPRISE.search(small) and len(found) <= 1:
        announced = int(found[0]) if found else 0
        size = len(head) + announced
    is_small = size < math.inf and announced <= SMALL_BODY
    lane = _lane(head, apart) if is_small else Lane.LARGE
    return RequestHead(lane, size, len(head), announced)


def _lane(head: bytes, apart: Collection[str]) -> Lane:
    # Whole words only. What is not recognized here has no place beside the reserved threads.
    method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
    target = rest.partition(b" ")[0]
    if method == b"GET":
        return Lane.HEALTH if target == b"/healthz" else Lane.APART
    wanted = f"{method.decode('latin-1')} {target.decode('latin-1')}"
    return Lane.APART if wanted in apart else Lane.MAIN
