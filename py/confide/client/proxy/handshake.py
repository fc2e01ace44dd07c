"""What the proxy does before it sends a prompt: verify the coordinator, and exchange a key.

Everything comes through an untrusted gateway. What the proxy trusts afterwards, and why:

* the coordinator's evidence binds a fresh nonce, the manifest and both CAs, and the manifest has
  the bytes of the pinned one;
* the secret service's certificate chains to *those* CAs, names the role, and names the KEM key that
  the inference key is sealed to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from confide.client.collateral.finder import FindCollateral
from confide.client.receipts import Attested
from confide.client.service import Record
from confide.client.service_verdict import ServiceVerdict
from confide.errors import UnavailableError, VerificationError
from confide.net.calls import Caller
from confide.protocol.binding import NONCE_SIZE
from confide.protocol.coordinator import MAX_ATTESTATION, Attestation, Nonce
from confide.protocol.keyexchange import KEY_LIFETIME, KEY_SIZE, InferenceKey, seal_key
from confide.protocol.manifest import Manifest
from confide.protocol.opt_outs import require_given
from confide.protocol.secret_service import MAX_REPLY, KeyAccepted, KeyExchangeReply
from confide.verify.service import verify_coordinator, verify_key_exchange
from confide.verify.verdict import Verdict

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
    attested: Attested


class Handshake:
    """Runs the whole exchange; keeps no state between two runs."""

    def __init__(
        self,
        gateway: Caller,
        *,
        manifest: bytes,
        api_key: str,
        find_collateral: FindCollateral,
        clock: Callable[[], float],
        opt_outs: Collection[str] = (),
    ) -> None:
        """`manifest` are the pinned bytes, `opt_outs` those of it that the person gave.

        Raises FormatError for malformed bytes, PolicyError for an opt-out that was not given.
        """
        self._gateway = gateway
        self._pinned = manifest
        self._manifest = Manifest.parse(manifest)
        require_given(self._manifest.opt_outs, opt_outs)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._find_collateral = find_collateral
        self._clock = clock

    def run(self, report: Callable[[ServiceVerdict], None]) -> Established:
        """Verify and exchange a key.

        Args:
            report: Gets every check that was made, also if one failed.

        Raises:
            PolicyError: The manifest has expired.
            VerificationError: A check failed: do not trust what answered.
            FormatError: An answer is malformed: do not trust what answered.
            UnavailableError: The gateway is unreachable or refuses.
        """
        self._manifest.require_current(self._now())
        found = ServiceVerdict(coordinator=Verdict(()), secret_service=Verdict(()))
        try:
            nonce = os.urandom(NONCE_SIZE)
            answer = self._call(
                "POST", "/confide/v1/attest", Nonce(nonce).encode(), MAX_ATTESTATION
            )
            attestation = Attestation.parse(answer)
            collateral = self._find_collateral(attestation.evidence, self._manifest)
            record = Record(nonce, self._now(), answer, b"", collateral)
            coordinator = verify_coordinator(
                attestation,
                manifest_pinned=self._pinned,
                nonce=nonce,
                collateral=collateral,
                now=record.time,
            )
            found = replace(found, coordinator=coordinator)
            coordinator.require()
            reply = KeyExchangeReply.parse(
                self._call("GET", "/confide/v1/key-exchange", None, MAX_REPLY)
            )
            secret_service = verify_key_exchange(
                reply, mesh_ca=attestation.mesh_ca, root_ca=attestation.root_ca, now=self._now()
            )
            found = replace(found, secret_service=secret_service)
            secret_service.require()
        finally:
            report(found)
        attested = Attested(record, coordinator)
        return self._exchange(attested, attestation, reply.kem_public_key)

    def _exchange(
        self, attested: Attested, attestation: Attestation, kem_public_key: bytes
    ) -> Established:
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
            # Not authenticated, so it can only shorten. Nothing is sent under an expired manifest.
            key_seconds=min(accepted.expires_in, KEY_LIFETIME, manifest.expires - self._now()),
            attested=attested,
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
    """The error for a gateway that refuses. Its reason is not authenticated, so it is cut short."""
    try:
        error = json.loads(body)["error"]
        said = f"{error['code']}: {error['message']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        said = "no reason"
    return UnavailableError(
        "gateway-refused",
        f"the gateway answered {what} with HTTP {status}",
        seen=ascii(said)[:300],
        next="ask the operator of the gateway",
    )
