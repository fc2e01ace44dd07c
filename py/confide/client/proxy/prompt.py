"""An app's request as the proxy sends it: what is in the table, and a salt for caches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from confide.protocol.routes.table import Route, encode

CACHE_SALT_INFO = b"confide/cache-salt/2"
SHARED = "shared:"
"""How a salt starts that is not one user's alone: behind one proxy there may be several."""

PROMPT_START = 1024
"""Characters of a prompt that tell which conversation it belongs to."""


@dataclass(frozen=True, repr=False)
class Prompt:
    """An app's request: its route, and what the route makes of its body."""

    route: Route
    request: Mapping[str, Any]

    @classmethod
    def parse(cls, route: Route, body: bytes) -> Prompt:
        """Read a request. Raises what `Route.read` raises."""
        return cls(route, route.read(body))

    @property
    def model(self) -> str:
        """The model that it names."""
        name: str = self.request["model"]
        return name

    @property
    def conversation(self) -> bytes:
        """32 bytes that the turns of one conversation share: what comes first in the request."""
        if "messages" in self.request:
            messages = self.request["messages"]
            users = (at for at, message in enumerate(messages) if message["role"] == "user")
            start = messages[: next(users, 0) + 1]
        else:
            start = self.request["prompt"][:PROMPT_START]
        return sha256(json.dumps([self.model, start]).encode()).digest()

    def salted(self, secret: bytes) -> bytes:
        """The request with a salt for the engine's prefix cache, unless the app gave one.

        `secret` is 32 bytes of this client. The salt does not depend on the inference key, so what
        the engine remembers outlives it.
        """
        if "cache_salt" in self.request:
            return encode(self.request)
        digest = HKDF(SHA256(), 32, None, CACHE_SALT_INFO + self.model.encode()).derive(secret)
        return encode({**self.request, "cache_salt": f"{SHARED}{digest.hex()}"})
