"""What the proxy does before it sends a single prompt: verify the coordinator, exchange a key.

Everything comes through a gateway that nobody trusts. What is believed afterwards, and why:

* the coordinator's evidence binds a fresh nonce, the manifest and both CAs, and the manifest's
  bytes are the pinned ones;
* the secret service's certificate chains to *those* CAs, names the role, and names the very KEM key
  that the inference key is sealed to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass

from confide.client.collateral.finder import FindCollateral
from confide.errors import UnavailableError, VerificationError
from confide.net.http_client import Upstream
from confide.protocol.binding import NONCE_SIZE
from confide.protocol.coordinator import MAX_ATTESTATION, Attestation, Nonce
from confide.protocol.keyexchange import KEY_LIFETIME, KEY_SIZE, InferenceKey, seal_key
from confide.protocol.manifest import Manifest
from confide.protocol.secret_service import MAX_REPLY, KeyAccepted, KeyExchangeReply
from confide.verify.service import verify_coordinator, verify_key_exchange
from confide.verify.verdict import Check, Verdict

_CBOR = "application/cbor"


@dataclass(frozen=True, repr=False)
class Established:
    """A verified service and an inference key that its secret service holds."""

    manifest: Manifest
    mesh_ca: bytes
    root_ca: bytes
    key: bytes
    key_id: bytes
    key_seconds: int


class Handshake:
    """Runs the whole exchange; no state is kept between two runs."""

    def __init__(
        self,
        gateway: Upstream,
        *,
        manifest: bytes,
        api_key: str,
        find_collateral: FindCollateral,
        clock: Callable[[], float],
    ) -> None:
        """`manifest`: the pinned bytes. Raises FormatError if they are no manifest."""
        self._gateway = gateway
        self._pinned = manifest
        self._manifest = Manifest.parse(manifest)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._find_collateral = find_collateral
        self._clock = clock

    def run(self, report: Callable[[Verdict], None]) -> Established:
        """Verify and exchange a key. `report` gets every check made, also if one has failed.

        Raises VerificationError or FormatError (do not trust what answered) or UnavailableError
        (nothing that can be trusted answered).
        """
        checks: list[Check] = []
        try:
            attestation = self._attest(checks)
            kem_public_key = self._key_exchange(attestation, checks)
        finally:
            report(Verdict(tuple(checks)))
        return self._exchange(attestation, kem_public_key)

    def _attest(self, checks: list[Check]) -> Attestation:
        nonce = os.urandom(NONCE_SIZE)
        attestation = Attestation.parse(
            self._call("POST", "/confide/v1/attest", Nonce(nonce).encode(), MAX_ATTESTATION)
        )
        verdict = verify_coordinator(
            attestation,
            manifest_pinned=self._pinned,
            nonce=nonce,
            collateral=self._find_collateral(attestation.evidence, self._manifest),
            now=self._now(),
        )
        checks += verdict.checks
        verdict.require()
        return attestation

    def _key_exchange(self, attestation: Attestation, checks: list[Check]) -> bytes:
        reply = KeyExchangeReply.parse(
            self._call("GET", "/confide/v1/key-exchange", None, MAX_REPLY)
        )
        verdict = verify_key_exchange(
            reply, mesh_ca=attestation.mesh_ca, root_ca=attestation.root_ca, now=self._now()
        )
        checks += verdict.checks
        verdict.require()
        return reply.kem_public_key

    def _exchange(self, attestation: Attestation, kem_public_key: bytes) -> Established:
        manifest = self._manifest
        models = tuple(model.name for model in manifest.models)
        key = InferenceKey(os.urandom(KEY_SIZE), models, self._now())
        sealed = seal_key(key, kem_public_key, manifest_sha256=manifest.sha256)
        accepted = KeyAccepted.parse(
            self._call("POST", "/confide/v1/keys", sealed.message, MAX_REPLY)
        )
        if accepted.key_id != sealed.key_id:
            raise VerificationError(
                "wrong-key-id",
                "the secret service took another key than the one that was sealed",
                expected=sealed.key_id.hex(),
                seen=accepted.key_id.hex(),
            )
        return Established(
            manifest=manifest,
            mesh_ca=attestation.mesh_ca,
            root_ca=attestation.root_ca,
            key=key.key,
            key_id=sealed.key_id,
            # Not authenticated, so it can only shorten.
            key_seconds=min(accepted.expires_in, KEY_LIFETIME),
        )

    def _now(self) -> int:
        return int(self._clock())

    def _call(self, method: str, path: str, body: bytes | None, limit: int) -> bytes:
        headers = {**self._headers, "Content-Type": _CBOR}
        status, _, answer = self._gateway.call(
            method, path, body=body, headers=headers, limit=limit
        )
        if status != 200:
            raise gateway_error(status, answer, f"{method} {path}")
        return answer


def gateway_error(status: int, body: bytes, what: str) -> UnavailableError:
    """What a gateway says instead of an answer: its word, authentic in no way, so cut short."""
    try:
        error = json.loads(body)["error"]
        said = f"{error['code']}: {error['message']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        said = "no reason"
    return UnavailableError(
        "gateway-refused",
        f"the gateway answered {what} with HTTP {status}",
        seen=ascii(said)[:300],
        next="ask whoever runs the gateway",
    )
