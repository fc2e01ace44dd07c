"""Whose requests share the engine's prefix cache: those with the same salt.

The cache answers sooner when a prompt begins like an earlier one, which tells whoever asks that it
was there. So requests share it only if whoever sent them belongs together:

* those under one inference key, which is one client's for an hour,
* or those with the same `cache_salt` in the request, so that clients who trust each other can agree
  on one. It has to be a secret of theirs, hence not a short one.

The engine gets neither key id nor the client's salt, but an HMAC-SHA256 under a secret of this
process: without it, one kind of salt cannot be made to look like the other.
"""

from __future__ import annotations

import hmac
import os

from confide.errors import FormatError

MIN_SALT = 32
"""Characters of a client's own salt: at least 128 bits, if they are hex."""


class CacheSalts:
    """Makes the engine's salts, 64 hex digits each."""

    def __init__(self) -> None:
        self._secret = os.urandom(32)

    def for_request(self, key_id: bytes, chosen: object) -> str:
        """The salt for a request under this key (32 bytes); `chosen` is its cache_salt, or None.

        Raises FormatError "bad-cache-salt".
        """
        if chosen is None:
            return self._digest(b"key", key_id)
        if not isinstance(chosen, str) or len(chosen) < MIN_SALT:
            raise FormatError(
                "bad-cache-salt",
                "the request's cache_salt is not one",
                expected=f"a secret text of at least {MIN_SALT} characters",
                seen=f"{len(chosen)} characters" if isinstance(chosen, str) else "no text",
                next="leave it out, to share the cache with nobody else",
            )
        return self._digest(b"chosen", chosen.encode("utf-8", "surrogatepass"))

    def _digest(self, kind: bytes, value: bytes) -> str:
        return hmac.digest(self._secret, kind + b"\0" + value, "sha256").hex()
