"""Small calls of the gateway: attestation, lists and keys. Others check what it answers.

Requests of apps take another way (completions.py), because their answers are streams.
"""

from __future__ import annotations

import time

from confide.errors import FormatError, UnavailableError
from confide.net.calls import Caller
from confide.net.refusals import seconds_to_wait
from confide.protocol.error_answer import read_error

_CBOR = "application/cbor"

SETUP_SECONDS = 60.0
"""For all that a gateway has to answer until a service is verified, or until it has a new key."""


def setup_ends() -> float:
    """When one that begins now has to be over (time.monotonic)."""
    return time.monotonic() + SETUP_SECONDS


class Gateway:
    """One gateway, with what every call of it carries. Thread-safe."""

    def __init__(self, caller: Caller, *, api_key: str, manifest_sha256: bytes) -> None:
        """`api_key` may be "" for none; the manifest says which release the client wants."""
        self._caller = caller
        self.headers = {"Confide-Manifest": manifest_sha256.hex()}
        if api_key:
            self.headers["Authorization"] = f"Bearer {api_key}"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        limit: int,
        until: float | None = None,
    ) -> bytes:
        """The body of the answer: at most `limit` bytes, and until then, or in SETUP_SECONDS.

        Raises UnavailableError, FormatError.
        """
        answer = self._caller.call(
            method,
            path,
            body=body,
            headers={**self.headers, "Content-Type": _CBOR},
            limit=limit,
            seconds=(setup_ends() if until is None else until) - time.monotonic(),
        )
        if answer.status != 200:
            wait = answer.header("Retry-After")
            raise gateway_error(answer.status, answer.body, f"{method} {path}", wait)
        return answer.body


def gateway_error(status: int, body: bytes, what: str, wait: str) -> UnavailableError:
    """The error for a gateway that refuses, with its `Retry-After`.

    Its reason is not authenticated, so it is cut short.
    """
    try:
        error = read_error(body)
        said = f"{error.code}: {error.message}"
    except FormatError:
        said = "no reason"
    return UnavailableError(
        "gateway-refused",
        f"the gateway answered {what} with HTTP {status}",
        seen=ascii(said)[:300],
        next="ask the operator of the gateway",
        retry_after=seconds_to_wait(wait),
    )
