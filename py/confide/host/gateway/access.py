"""Who may use the gateway, and how often: API keys and their requests per minute.

The gateway never holds an API key, only its SHA-256. One hash is enough, because keys are long
random strings.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from confide.encoding.fields import Fields
from confide.errors import ConfigError, FormatError, PolicyError

MAX_KEYS_FILE = 1 << 20


class _Quota:
    """A token bucket: `per_minute` requests a minute; after a quiet minute, as many at once."""

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

        Raises:
            ConfigError: The file cannot be used; the error names it.
        """
        try:
            data = path.read_bytes()
            if len(data) > MAX_KEYS_FILE:
                raise FormatError("too-large", f"the file is over {MAX_KEYS_FILE} bytes")
            users = Fields(json.loads(data), "the API keys file")
            keys: dict[bytes, int] = {}
            for name in users.unread():
                entry = users.map(name)
                digest = entry.hex("sha256", 32)
                if digest in keys:
                    raise FormatError("duplicate-key", f"the key of {name!r} is listed twice")
                keys[digest] = entry.integer("requests_per_minute", minimum=1, maximum=10**6)
                entry.done()
            if not keys:
                raise FormatError("no-keys", "the file lists no key")
        except (OSError, ValueError, FormatError) as error:
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
            admitted = quota.take(self._clock())
        if not admitted:
            raise PolicyError(
                "rate-limited",
                "this API key has used up its requests per minute",
                next="wait, or ask the operator for a higher limit",
            )
