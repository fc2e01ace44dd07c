"""Calls of a coordinator. The transport is untrusted: the caller checks what it brings."""

from __future__ import annotations

from confide.encoding.x509 import MAX_DER
from confide.net.calls import Caller
from confide.net.refusals import peer_error
from confide.protocol import coordinator as messages
from confide.protocol.collateral import MAX_BUNDLE, Bundle
from confide.protocol.error_answer import MAX_ERROR

READ_SECONDS = 120.0
"""An emulated machine on a busy host needs tens of seconds for a quote and its verification."""

TOTAL_SECONDS = 180.0


class CoordinatorClient:
    """One coordinator, at `url`. Behind a gateway, `prefix` and `api_key` are the gateway's.

    Each method is one exchange. All raise UnavailableError if the peer is unreachable, FormatError
    for a malformed answer, and the peer's own error if the peer refuses.
    """

    def __init__(self, url: str, *, prefix: str = "/v1", api_key: str = "") -> None:
        self._caller = Caller(url, read_seconds=READ_SECONDS, total_seconds=TOTAL_SECONDS)
        self._prefix = prefix
        self._headers = {"Content-Type": "application/cbor"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def attest(self, nonce: bytes) -> bytes:
        """An encoded Attestation, as it came, so that it can be kept."""
        body = messages.Nonce(nonce).encode()
        return self._call("POST", "/attest", body, messages.MAX_ATTESTATION)

    def key_exchange(self) -> bytes:
        """An encoded key exchange reply; only behind a gateway or at a secret service."""
        return self._call("GET", "/key-exchange", None, messages.MAX_ATTESTATION)

    def set_manifest(self, manifest: bytes) -> bytes:
        """Set the manifest; returns the SHA-256 that the coordinator says it has."""
        body = messages.SetManifest(manifest).encode()
        return messages.ManifestSet.parse(self._call("POST", "/manifest", body, 256)).sha256

    def collateral(self) -> Bundle:
        """The vendor collateral that the coordinator verifies with."""
        return Bundle.parse(self._call("GET", "/collateral", None, MAX_BUNDLE))

    def add_collateral(self, bundle: Bundle) -> messages.CollateralReply:
        """Give the coordinator vendor collateral; it keeps the newer ones that it can need."""
        limit = messages.MAX_COLLATERAL_REPLY
        answer = self._call("POST", "/collateral", bundle.encode(), limit)
        return messages.CollateralReply.parse(answer)

    def refused(self) -> messages.RefusedJoin:
        """The latest join whose evidence the coordinator refused."""
        return messages.RefusedJoin.parse(self._call("GET", "/refused", None, messages.MAX_JOIN))

    def mesh(self) -> messages.MeshReply:
        """The current manifest and CAs."""
        answer = self._call("GET", "/manifest", None, messages.MAX_ATTESTATION)
        return messages.MeshReply.parse(answer)

    def challenge(self) -> bytes:
        """A nonce for one join."""
        return messages.Nonce.parse(self._call("POST", "/challenge", b"", 256)).nonce

    def join(self, request: messages.JoinRequest) -> messages.JoinReply:
        """Ask to join the mesh."""
        body = request.encode()
        return messages.JoinReply.parse(self._call("POST", "/join", body, 4 * MAX_DER))

    def _call(self, method: str, path: str, body: bytes | None, limit: int) -> bytes:
        answer = self._caller.call(
            method,
            self._prefix + path,
            body=body,
            headers=self._headers,
            limit=max(limit, MAX_ERROR),
        )
        if answer.status != 200:
            raise peer_error(answer, self._caller.url)
        return answer.body
