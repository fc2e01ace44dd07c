"""Who may use the gateway, and how often: API keys and their requests per minute.

The gateway never holds an API key, only its SHA-256. Keys are meant to be long random strings, for
which one hash is enough.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from confide.encoding.messages import read_value
from confide.errors import ConfigError, FormatError, PolicyError
from measure.declare import Nested
from measure.kinds import Hex, Integer, MapOf, Text

MAX_KEYS_FILE = 1 << 20


@dataclass(frozen=True)
class _User:
    """One entry of the keys file: SHA-256 of the key (32 bytes), requests per minute."""

    sha256: Annotated[bytes, Hex(32)]
    requests_per_minute: Annotated[int, Integer(1, 10**6)]


_USERS = MapOf(Text(MAX_KEYS_FILE), Nested(_User), max_items=MAX_KEYS_FILE)


class _Quota:
    """A token bucket: `per_minute` requests a minute, and as many at once after a quiet minute."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._per_minute = per_minute
        self._tokens = float(per_minute)
        self._filled = now

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

        Raises ConfigError that names the file.
        """
        try:
            data = path.read_bytes()
            if len(data) > MAX_KEYS_FILE:
                raise FormatError("too-large", f"the file is over {MAX_KEYS_FILE} bytes")
            keys: dict[bytes, int] = {}
            for name, user in read_value(_USERS, json.loads(data), "the API keys file").items():
                if user.sha256 in keys:
                    raise FormatError("duplicate-key", f"the key of {name!r} is there twice")
                keys[user.sha256] = user.requests_per_minute
            if not keys:
                raise FormatError("no-keys", "the file names no key")
        except (OSError, ValueError, FormatError) as error:
            raise ConfigError(
                "bad-api-keys",
                f"The API keys file {path} is not usable",
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
                "The gateway does not know this API key",
                expected="Authorization: Bearer KEY",
                seen="another key" if authorization else "no key",
                next="start the proxy with --api-key-file FILE",
            )
        with self._lock:
            admitted = quota.take(self._clock())
        if not admitted:
            raise PolicyError(
                "rate-limited",
                "This API key's requests per minute are used up",
                next="wait, or ask for a higher limit",
            )
