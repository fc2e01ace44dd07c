"""What the proxy reads of an app's request, and the one thing that it adds: a salt for caches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from confide.errors import FormatError

CACHE_SALT_INFO = b"confide/cache-salt/2"
SHARED = "shared:"
"""How a salt starts that is not one user's alone: behind one proxy there may be several."""

PROMPT_START = 1024
"""Characters of a prompt that tell which conversation it belongs to."""

_SPACE = b" \t\r\n"


@dataclass(frozen=True, repr=False)
class Prompt:
    """An app's request: its path, its bytes, and the same as JSON says it."""

    path: str
    body: bytes
    request: Mapping[str, object]
    model: str

    @classmethod
    def parse(cls, path: str, body: bytes) -> Prompt:
        """Read a request. Raises FormatError `bad-json` or `bad-request`."""
        try:
            request = json.loads(body.decode())
        except (ValueError, RecursionError) as error:
            raise FormatError(
                "bad-json", "the body of the request is not JSON", expected="a JSON object"
            ) from error
        model = request.get("model") if isinstance(request, dict) else None
        if not isinstance(model, str):
            raise FormatError(
                "bad-request",
                "the request names no model",
                expected='a JSON object with a text field "model"',
            )
        return cls(path, body, request, model)

    @property
    def conversation(self) -> bytes:
        """32 bytes that the turns of one conversation share: what comes first in the request."""
        messages = self.request.get("messages")
        if isinstance(messages, list):
            users = (
                at
                for at, message in enumerate(messages)
                if isinstance(message, dict) and message.get("role") == "user"
            )
            start: object = messages[: next(users, 0) + 1]
        else:
            start = self.request.get("prompt")
            start = start[:PROMPT_START] if isinstance(start, (str, list)) else ""
        return sha256(json.dumps([self.model, start]).encode()).digest()

    def salted(self, secret: bytes) -> bytes:
        """The body with a salt for the engine's prefix cache, unless the app gave one.

        `secret` is 32 bytes of this client. The salt does not depend on the inference key, so what
        the engine remembers outlives it.
        """
        if self.request.get("cache_salt") is not None:
            return self.body
        digest = HKDF(SHA256(), 32, None, CACHE_SALT_INFO + self.model.encode()).derive(secret)
        # A JSON object that is not empty. Of a key that is there twice, the last one counts.
        return self.body.rstrip(_SPACE)[:-1] + f',"cache_salt":"{SHARED}{digest.hex()}"}}'.encode()
