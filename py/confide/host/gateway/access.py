"""Who may use the gateway, and how often: API keys and their requests per minute.

The gateway never holds an API key, only its SHA-256. One hash is enough, because keys are long
random strings.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from confide.encoding.files import read_file
from confide.encoding.messages import read_value
from confide.errors import ConfigError, FormatError, PolicyError
from measure.declare import Nested
from measure.kinds import Hex, Integer, MapOf, Text

MAX_KEYS_FILE = 1 << 20
"""Bytes of an API keys file."""


@dataclass(frozen=True)
class _User:
    """One entry of the keys file: SHA-256 of the key (32 bytes), requests per minute."""

    sha256: Annotated[bytes, Hex(32)]
    requests_per_minute: Annotated[int, Integer(1, 10**6)]


_USERS = MapOf(Text(MAX_KEYS_FILE), Nested(_User), max_items=MAX_KEYS_FILE)


class _Quota:
    """A token bucket: `per_minute` requests a minute; after a quiet minute, as many at once."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._per_minute = per_minute
        self._tokens = float(per_minute)
        self._filled = now

    @property
    def seconds(self) -> float:
        """Until a whole token is there."""
        return (1 - self._tokens) * 60 / self._per_minute

    def take(self, now: float) -> bool:
        refill = (now - self._filled) * self._per_minute / 60
        self._tokens = min(float(self._per_minute), self._tokens + refill)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Access:
    """Admits requests by their Authorization header. Safe to use from several threads."""

    def __init__(
        self, keys: Mapping[bytes, int], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`keys`: SHA-256 of an API key (32 bytes) to its requests per minute."""
        self._clock = clock
        self._lock = threading.Lock()
        self._quotas = {digest: _Quota(limit, clock()) for digest, limit in keys.items()}

    @classmethod
    def load(cls, path: Path) -> Access:
        """Read a keys file: {"NAME": {"sha256": "<64 hex>", "requests_per_minute": N}, ...}.

        Raises:
            ConfigError: The file cannot be used; the error names it.
        """
        data = read_file(path, "API keys file", MAX_KEYS_FILE)
        try:
            keys: dict[bytes, int] = {}
            for name, user in read_value(_USERS, json.loads(data), "the API keys file").items():
                if user.sha256 in keys:
                    raise FormatError("duplicate-key", f"the key of {name!r} is listed twice")
                keys[user.sha256] = user.requests_per_minute
            if not keys:
                raise FormatError("no-keys", "the file lists no key")
        except (ValueError, RecursionError, FormatError) as error:
            raise ConfigError(
                "bad-api-keys",
                f"the API keys file {path} cannot be used",
                expected='{"NAME": {"sha256": "<64 hex>", "requests_per_minute": 60}}',
                seen=str(error),
            ) from error
        return cls(keys)

    def admit(self, authorization: str) -> None:
        """Count one request. Raises PolicyError "unauthorized" or "rate-limited"."""
        scheme, _, key = authorization.partition(" ")
        digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        quota = self._quotas.get(digest) if scheme.lower() == "bearer" else None
        if quota is None:
            raise PolicyError(
                "unauthorized",
                "the gateway does not know this API key",
                expected="Authorization: Bearer KEY",
                seen="another key" if authorization else "no key",
                next="start the proxy with --api-key-file FILE",
            )
        with self._lock:
            admitted, seconds = quota.take(self._clock()), quota.seconds
        if not admitted:
            error = PolicyError(
                "rate-limited",
                "this API key has used up its requests per minute",
                next="wait, or ask the operator for a higher limit",
            )
            error.retry_after = math.ceil(seconds)
            raise error
