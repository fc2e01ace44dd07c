"""Sealed requests. Sealed responses are in frames.py; this module exports both.

Rules:
- A request is sealed whole, under a key of its own.
- Its associated data holds all readable fields that matter: version, method, path, model, key id.
  So nobody on the way can change them. The shard key only picks a worker.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from confide.encoding.canonical import cbor_encode
from confide.encoding.texts import check_name, from_hex
from confide.errors import FormatError, VerificationError
from confide.protocol.frames import (
    RESPONSE_TYPE,
    SALT_SIZE,
    TAG_SIZE,
    ClearError,
    Data,
    Event,
    Final,
    Head,
    ResponseOpener,
    ResponseSealer,
    Usage,
    clear_error,
)

__all__ = [
    "MAX_REQUEST",
    "PATHS",
    "REQUEST_TYPE",
    "RESPONSE_TYPE",
    "ClearError",
    "Data",
    "Event",
    "Final",
    "Head",
    "OpenedRequest",
    "RequestHeaders",
    "RequestOpener",
    "RequestSealer",
    "ResponseOpener",
    "ResponseSealer",
    "Usage",
    "clear_error",
]

VERSION = "confide/1"
REQUEST_TYPE = "application/confide-request"
PATHS = ("/v1/chat/completions", "/v1/completions")
MAX_REQUEST = 16 << 20

_REQUEST_INFO = b"confide/request/1"
# All zeros, because the key is fresh for each request.
_REQUEST_NONCE = bytes(12)


@dataclass(frozen=True)
class RequestHeaders:
    """What a sealed request says in the clear. `shard_key` is for routing only."""

    model: str
    key_id: bytes
    shard_key: str = ""

    def encode(self) -> dict[str, str]:
        """The HTTP headers, content type included."""
        headers = {
            "Confide-Version": "1",
            "Confide-Model": self.model,
            "Confide-Key-Id": self.key_id.hex(),
            "Content-Type": REQUEST_TYPE,
        }
        if self.shard_key:
            headers["Confide-Shard-Key"] = self.shard_key
        return headers

    @classmethod
    def parse(cls, headers: Mapping[str, str]) -> RequestHeaders:
        """Read them from a mapping that ignores case (Flask's, requests'). Raises FormatError."""
        for name, wanted in (("Confide-Version", "1"), ("Content-Type", REQUEST_TYPE)):
            if headers.get(name) != wanted:
                raise FormatError(
                    "bad-header",
                    f"the header {name} is wrong",
                    expected=wanted,
                    seen=ascii((headers.get(name) or "none")[:80]),
                )
        shard_key = headers.get("Confide-Shard-Key") or ""
        if shard_key:
            check_name(shard_key, "the header Confide-Shard-Key")
        return cls(
            model=check_name(headers.get("Confide-Model") or "", "the header Confide-Model"),
            key_id=from_hex(headers.get("Confide-Key-Id") or "", 32, "the header Confide-Key-Id"),
            shard_key=shard_key,
        )


def _request_aead(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, salt, _REQUEST_INFO).derive(key))


def _associated_data(method: str, path: str, model: str, key_id: bytes) -> bytes:
    return cbor_encode([VERSION, method, path, model, key_id])


class RequestSealer:
    """Client side of one request. `seal` makes the body; `response_opener` opens the answer."""

    def __init__(self, key: bytes, key_id: bytes) -> None:
        self._key = key
        self._key_id = key_id
        # A fresh salt per request: reuse would reuse the request key with a fixed nonce.
        self._salt = os.urandom(SALT_SIZE)
        self._used = False
        self.request_sha256 = b""

    def seal(self, *, method: str, path: str, model: str, body: bytes) -> bytes:
        """The sealed body: salt ‖ AES-256-GCM(body). Once only: a second call raises."""
        if self._used:
            raise RuntimeError("a RequestSealer seals one request")
        self._used = True
        aead = _request_aead(self._key, self._salt)
        ad = _associated_data(method, path, model, self._key_id)
        sealed = self._salt + aead.encrypt(_REQUEST_NONCE, body, ad)
        self.request_sha256 = sha256(sealed).digest()
        return sealed

    def response_opener(self) -> ResponseOpener:
        """A fresh opener for the response to this request."""
        return ResponseOpener(self._key, self._salt)


@dataclass(frozen=True, repr=False)
class OpenedRequest:
    """A request that authenticated: `body` is plaintext, `salt` goes to the replay guard."""

    body: bytes
    salt: bytes
    request_sha256: bytes
    _key: bytes

    def response_sealer(self) -> ResponseSealer:
        """A fresh sealer for the one response to this request."""
        return ResponseSealer(self._key, self.salt)


class RequestOpener:
    """Worker side: opens requests under one inference key."""

    def __init__(self, key: bytes, key_id: bytes) -> None:
        self._key = key
        self._key_id = key_id

    def open(self, sealed: bytes, *, method: str, path: str, model: str) -> OpenedRequest:
        """Open a sealed body. The caller then hands the salt to its replay guard.

        Raises FormatError for a body of impossible size, VerificationError (bad-seal) if body, key
        or anything that the associated data covers was changed.
        """
        if not SALT_SIZE + TAG_SIZE <= len(sealed) <= MAX_REQUEST:
            raise FormatError(
                "bad-request-size",
                "the sealed request has an impossible size",
                expected=f"{SALT_SIZE + TAG_SIZE} to {MAX_REQUEST} bytes",
                seen=f"{len(sealed)} bytes",
            )
        salt = sealed[:SALT_SIZE]
        aead = _request_aead(self._key, salt)
        ad = _associated_data(method, path, model, self._key_id)
        try:
            body = aead.decrypt(_REQUEST_NONCE, sealed[SALT_SIZE:], ad)
        except InvalidTag as error:
            raise VerificationError(
                "bad-seal", "the sealed request does not open: it was changed on the way"
            ) from error
        return OpenedRequest(body, salt, sha256(sealed).digest(), self._key)
