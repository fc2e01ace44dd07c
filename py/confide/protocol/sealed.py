"""Sealed requests. Sealed responses are in frames.py and opener.py.

Rules:
- A request is sealed whole and padded, under a key of its own, which takes two secrets: the
  worker's key K_w (from a secret service) and the share (sealed to the worker alone).
- Its associated data holds everything that is readable: version, method, path, model, key id,
  manifest and worker. So nobody on the way can change them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from confide.encoding.canonical import cbor_encode
from confide.encoding.messages import CborMessage
from confide.encoding.texts import check_name, from_hex
from confide.errors import FormatError, VerificationError
from confide.protocol.frames import CONTENT_TYPE, SALT_SIZE, TAG_SIZE, ResponseSealer
from confide.protocol.keyexchange import KEM_HASH_SIZE
from confide.protocol.opener import ResponseOpener
from confide.protocol.padding import SMALLEST, pad, unpad
from confide.protocol.share import SEALED_SHARE_SIZE
from measure.kinds import Blob, Integer

VERSION = "confide/2"
REQUEST_TYPE = "application/confide-request"
JSON_TYPE = "application/json"
MAX_REQUEST = 16 << 20
MAX_PACE = 1000
COUNTER_SIZE = 8

_REQUEST_INFO = b"confide/request/2"
# All zeros, because the key is fresh for each request.
_REQUEST_NONCE = bytes(12)
_SHARE_AT = KEM_HASH_SIZE
_SALT_AT = _SHARE_AT + SEALED_SHARE_SIZE
_SEALED_AT = _SALT_AT + SALT_SIZE
MIN_REQUEST = _SEALED_AT + SMALLEST + TAG_SIZE

_VERSION_HEADERS = (("Confide-Version", "2"), ("Content-Type", REQUEST_TYPE))


@dataclass(frozen=True)
class RequestHeaders:
    """What a sealed request says in the clear, all of it authenticated.

    `key_id`, `manifest_sha256` and `worker` (keyexchange.worker_id_of) have 32 bytes each.
    """

    model: str
    key_id: bytes
    manifest_sha256: bytes
    worker: bytes

    def encode(self) -> dict[str, str]:
        """The HTTP headers, content type included."""
        return dict(_VERSION_HEADERS) | {
            "Confide-Manifest": self.manifest_sha256.hex(),
            "Confide-Model": self.model,
            "Confide-Key-Id": self.key_id.hex(),
            "Confide-Worker": self.worker.hex(),
        }

    @classmethod
    def parse(cls, headers: Mapping[str, str]) -> RequestHeaders:
        """Read them from a mapping that ignores case (Flask's, requests'). Raises FormatError."""
        for name, wanted in _VERSION_HEADERS:
            if headers.get(name) != wanted:
                raise FormatError(
                    "bad-header",
                    f"the header {name} is wrong",
                    expected=wanted,
                    seen=ascii((headers.get(name) or "none")[:80]),
                )

        def digest(name: str) -> bytes:
            return from_hex(headers.get(name) or "", 32, f"the header {name}")

        return cls(
            model=check_name(headers.get("Confide-Model") or "", "the header Confide-Model"),
            key_id=digest("Confide-Key-Id"),
            manifest_sha256=digest("Confide-Manifest"),
            worker=digest("Confide-Worker"),
        )

    def associated_data(self, method: str, path: str) -> bytes:
        """What the seal of a request covers in the clear."""
        parts = [VERSION, method, path, self.model]
        return cbor_encode([*parts, self.key_id, self.manifest_sha256, self.worker])


@dataclass(frozen=True, repr=False)
class RequestContent(CborMessage, what="the request", limit=MAX_REQUEST):
    """What is sealed: the app's body, its type, and the pace of the answer's frames."""

    body: Annotated[bytes, Blob(max_size=MAX_REQUEST)]
    content_type: Annotated[str, CONTENT_TYPE] = JSON_TYPE
    pace_ms: Annotated[int, Integer(maximum=MAX_PACE)] = 0


@dataclass(frozen=True, repr=False)
class RequestKey:
    """The two secrets of a client and one worker, and how the worker gets the second.

    `worker_key` is K_w and `share` the share (32 bytes each), `kem_sha256` names the worker's KEM
    key (32 bytes) and `sealed_share` has 1,168 bytes.
    """

    worker_key: bytes
    share: bytes
    kem_sha256: bytes
    sealed_share: bytes


def _request_aead(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, salt, _REQUEST_INFO).derive(key))


class RequestSealer:
    """Client side of one request. `seal` makes the body; `response_opener` opens the answer."""

    def __init__(self, key: RequestKey, counter: int) -> None:
        """`counter` counts the requests of this key to this worker: no number twice."""
        self._key = key.worker_key + key.share
        self._clear = key.kem_sha256 + key.sealed_share
        # The random part makes the request's key new, even if a counter were ever used twice.
        self._salt = counter.to_bytes(COUNTER_SIZE, "big") + os.urandom(SALT_SIZE - COUNTER_SIZE)
        self._used = False
        self.request_sha256 = b""

    def seal(
        self, content: RequestContent, headers: RequestHeaders, *, method: str, path: str
    ) -> bytes:
        """The sealed body. Once only: a second call raises."""
        if self._used:
            raise RuntimeError("a RequestSealer seals one request")
        self._used = True
        aead = _request_aead(self._key, self._salt)
        data = headers.associated_data(method, path)
        sealed = aead.encrypt(_REQUEST_NONCE, pad(content.encode()), data)
        body = b"".join((self._clear, self._salt, sealed))
        self.request_sha256 = sha256(body).digest()
        return body

    def response_opener(self) -> ResponseOpener:
        """A fresh opener for the response to this request."""
        return ResponseOpener(self._key, self._salt)


@dataclass(frozen=True, repr=False)
class OpenedRequest:
    """A request that authenticated. `counter` goes to the replay window before `content` counts."""

    content: RequestContent
    counter: int
    request_sha256: bytes
    _key: bytes
    _salt: bytes

    def response_sealer(self) -> ResponseSealer:
        """A fresh sealer for the one response to this request."""
        return ResponseSealer(self._key, self._salt)


@dataclass(frozen=True, repr=False)
class SealedRequest:
    """A request's body as it came, cut into its parts; `open` says whether it is authentic."""

    kem_sha256: bytes
    sealed_share: bytes
    _whole: bytes

    @classmethod
    def cut(cls, body: bytes) -> SealedRequest:
        """Cut a body into its parts. Raises FormatError for one of impossible size."""
        if not MIN_REQUEST <= len(body) <= MAX_REQUEST:
            raise FormatError(
                "bad-request-size",
                "the sealed request has an impossible size",
                expected=f"{MIN_REQUEST} to {MAX_REQUEST} bytes",
                seen=f"{len(body)} bytes",
            )
        return cls(body[:_SHARE_AT], body[_SHARE_AT:_SALT_AT], body)

    def open(
        self, *, worker_key: bytes, share: bytes, headers: RequestHeaders, method: str, path: str
    ) -> OpenedRequest:
        """Open the request. The caller then asks its replay window about the counter.

        `worker_key` is K_w, and `share` what `sealed_share` holds: 32 bytes each.

        Raises FormatError for authentic but malformed content, VerificationError `bad-seal` if
        body, keys or anything that the associated data covers was changed.
        """
        whole, key = self._whole, worker_key + share
        salt = whole[_SALT_AT:_SEALED_AT]
        data = headers.associated_data(method, path)
        try:
            padded = _request_aead(key, salt).decrypt(_REQUEST_NONCE, whole[_SEALED_AT:], data)
        except InvalidTag as error:
            raise VerificationError(
                "bad-seal", "the sealed request does not open: it was changed on the way"
            ) from error
        try:
            content = RequestContent.parse(unpad(padded))
        except FormatError as error:
            # It leaves in the clear, so it says what is wrong and quotes nothing.
            raise FormatError(error.code, error.message, expected=error.expected) from None
        counter = int.from_bytes(salt[:COUNTER_SIZE], "big")
        return OpenedRequest(content, counter, sha256(whole).digest(), key, salt)
