"""Salts for the engine's prefix cache: requests share it only if they have the same salt.

The cache makes an answer faster when the prompt begins like an earlier one. The time therefore
reveals that such a prompt was there. So these requests share the cache:

* requests under one inference key, which one client has for an hour,
* requests with the same `cache_salt`, on which clients who trust each other can agree. It has to be
  secret, so it must not be short. A client whose app gives none puts in one of its own, which
  starts with "shared:" because several users may stand behind it.

Of a prompt that is shared with others, an answer must not say how much was cached: that is an exact
oracle for the others' prompts.

The engine gets an HMAC-SHA256 under a secret of this process, not the key id or the client's salt.
Without the secret, one kind of salt cannot be made to look like the other.
"""

from __future__ import annotations

import hmac
import os

from confide.errors import FormatError

SHARED = "shared:"
"""How a salt starts that is not one user's alone."""

MIN_SALT = 32
"""Fewest characters of a client's salt: 128 bits in hex."""


def is_of_one_user(chosen: str | None) -> bool:
    """Whether a request's own `cache_salt`, or None, is that of one user."""
    return chosen is not None and not chosen.startswith(SHARED)


class CacheSalts:
    """Makes the engine's salts, 64 hex digits each."""

    def __init__(self) -> None:
        self._secret = os.urandom(32)

    def for_request(self, key_id: bytes, chosen: str | None) -> str:
        """The salt for a request under this key (32 bytes); `chosen` is its cache_salt, or None.

        Raises FormatError "bad-cache-salt".
        """
        if chosen is None:
            return self._digest(b"key", key_id)
        if len(chosen) < MIN_SALT:
            raise FormatError(
                "bad-cache-salt",
                "the cache_salt of the request is malformed",
                expected=f"a secret text of at least {MIN_SALT} characters",
                seen=f"{len(chosen)} characters",
                next="leave it out to share no cache",
            )
        return self._digest(b"chosen", chosen.encode())

    def _digest(self, kind: bytes, value: bytes) -> str:
        return hmac.digest(self._secret, kind + b"\0" + value, "sha256").hex()
