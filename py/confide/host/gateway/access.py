"""Who may use the gateway, and how often: API keys, their requests per minute, and the rest.

The gateway never holds an API key, only its SHA-256. One hash is enough, because keys are long
random strings.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Protocol

from confide.encoding.files import read_file
from confide.encoding.messages import read_value
from confide.errors import ConfigError, FormatError, PolicyError
from confide.net.address import source_of
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


class Use(Enum):
    """What a client does at the gateway. Each kind is counted apart, so none uses another's up."""

    ATTESTATION = "attestations"
    LISTS = "lists of workers and models"
    OFFERS = "key exchanges"
    KEYS = "key messages"
    REQUESTS = "requests"


@dataclass(frozen=True)
class Allowance:
    """How often something may be done: so many times at once, and refilled at so many a minute."""

    at_once: int
    per_minute: float


KEY_MESSAGES = Allowance(256, 1024 / 60)
"""A proxy sends one for each model and secret service every 45 minutes. Those that one client can
send in an hour, 1,280, are 2 % of what a secret service holds."""

ATTESTATIONS = Allowance(30, 30)
"""A proxy attests every 45 minutes, and every 5 s while that fails."""

OFFERS = Allowance(120, 120)
"""One for each attestation and each key message of a model."""

MORE_LISTS = 60
"""A proxy fetches a list at most once for each request, and some at its start."""

MAX_ADDRESSES = 4096
"""Senders without API keys that are remembered. A new one takes the place of the oldest."""


def allowances(requests_per_minute: int) -> dict[Use, Allowance]:
    """What an API key with this limit may do."""
    lists = requests_per_minute + MORE_LISTS
    return {
        Use.ATTESTATION: ATTESTATIONS,
        Use.LISTS: Allowance(lists, lists),
        Use.OFFERS: OFFERS,
        Use.KEYS: KEY_MESSAGES,
        Use.REQUESTS: Allowance(requests_per_minute, requests_per_minute),
    }


class _Quota:
    """A token bucket, full at first."""

    def __init__(self, allowance: Allowance, now: float) -> None:
        self._allowance = allowance
        self._tokens = float(allowance.at_once)
        self._filled = now

    def take(self, now: float) -> float:
        """Take one. Returns 0, or the seconds until there is one."""
        per_second = self._allowance.per_minute / 60
        self._tokens += (now - self._filled) * per_second
        self._tokens = min(float(self._allowance.at_once), self._tokens)
        self._filled = now
        if self._tokens < 1:
            return (1 - self._tokens) / per_second
        self._tokens -= 1
        return 0.0


class Doorkeeper(Protocol):
    """Who may pass."""

    def admit(self, use: Use, *, authorization: str, address: str) -> None:
        """Count one use. `authorization` is that header, `address` the peer's, as TCP sees it.

        Raises PolicyError "unauthorized" or "rate-limited".
        """


class Everybody:
    """Admits clients without API keys. Only the key messages of each address are counted.

    They stay in secret services for an hour. Clients behind one balancer have one address.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._quotas: OrderedDict[str, _Quota] = OrderedDict()

    def admit(self, use: Use, *, authorization: str, address: str) -> None:
        """As Doorkeeper says."""
        if use is not Use.KEYS:
            return
        now, source = self._clock(), source_of(address)
        with self._lock:
            quota = self._quotas.setdefault(source, _Quota(KEY_MESSAGES, now))
            self._quotas.move_to_end(source)
            if len(self._quotas) > MAX_ADDRESSES:
                self._quotas.popitem(last=False)
            wait = quota.take(now)
        if wait:
            raise _limited("this address", use, KEY_MESSAGES, wait)


class Access:
    """Admits clients by the API keys in their Authorization header. Thread-safe."""

    def __init__(
        self, keys: Mapping[bytes, int], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`keys`: SHA-256 of an API key (32 bytes) to its requests per minute."""
        self._clock = clock
        self._lock = threading.Lock()
        self._allowed = {digest: allowances(limit) for digest, limit in keys.items()}
        self._quotas = {
            (digest, use): _Quota(allowance, clock())
            for digest, allowed in self._allowed.items()
            for use, allowance in allowed.items()
        }

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

    def admit(self, use: Use, *, authorization: str, address: str) -> None:
        """As Doorkeeper says."""
        scheme, _, key = authorization.partition(" ")
        digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        allowed = self._allowed.get(digest) if scheme.lower() == "bearer" else None
        if allowed is None:
            raise PolicyError(
                "unauthorized",
                "the gateway does not know this API key",
                expected="Authorization: Bearer KEY",
                seen="another key" if authorization else "no key",
                next="start the proxy with --api-key-file FILE",
            )
        with self._lock:
            wait = self._quotas[digest, use].take(self._clock())
        if wait:
            raise _limited("this API key", use, allowed[use], wait)


def _limited(who: str, use: Use, allowance: Allowance, wait: float) -> PolicyError:
    return PolicyError(
        "rate-limited",
        f"{who} has used up its {use.value}",
        expected=f"at most {allowance.at_once} at once and {allowance.per_minute:.0f} a minute",
        next="wait, or ask the operator for a higher limit",
        retry_after=math.ceil(wait),
    )
