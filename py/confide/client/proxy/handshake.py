"""What the proxy does before it sends a prompt: verify the coordinator, and whom it certified.

Everything comes through an untrusted gateway. What the proxy trusts afterwards, and why:

* the coordinator's evidence binds a fresh nonce, the manifest and both CAs, and the manifest has
  the bytes of the pinned one;
* secret services and workers show certificates that chain to *those* CAs, name the role, the models
  and the KEM key. Each one is verified again at the moment when something is sealed to it (keys.py,
  workers.py); here they are counted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial

from confide.client.collateral.finder import FindCollateral
from confide.client.proxy.gateway import Gateway, setup_ends
from confide.client.receipts import Attested
from confide.client.service import Record
from confide.client.service_verdict import ServiceVerdict
from confide.protocol.binding import NONCE_SIZE
from confide.protocol.coordinator import MAX_ATTESTATION, Attestation, Nonce
from confide.protocol.keyexchange import KEY_LIFETIME
from confide.protocol.manifest import Manifest
from confide.protocol.opt_outs import require_given
from confide.protocol.secret_service import MAX_REPLY, KeyExchangeReply
from confide.protocol.workers import MAX_LIST, WorkerList, workers_query
from confide.verify.nodes import verify_key_exchange, verify_workers
from confide.verify.service import verify_coordinator


@dataclass(frozen=True, repr=False)
class Established:
    """A verified service: its manifest, its CAs (DER), and for how many seconds that counts."""

    manifest: Manifest
    mesh_ca: bytes
    root_ca: bytes
    seconds: int
    attested: Attested


class Handshake:
    """Runs the whole exchange; keeps no state between two runs."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        manifest: bytes,
        find_collateral: FindCollateral,
        clock: Callable[[], float],
        opt_outs: Collection[str] = (),
        min_workers: int = 0,
    ) -> None:
        """`manifest` are the pinned bytes, `opt_outs` those of it that the person gave.

        `min_workers` is the fewest workers that the gateway has to show. Raises FormatError for
        malformed bytes, PolicyError for an opt-out that was not given.
        """
        self._gateway = gateway
        self._pinned = manifest
        self._manifest = Manifest.parse(manifest)
        require_given(self._manifest.opt_outs, opt_outs)
        self._find_collateral = find_collateral
        self._clock = clock
        self._min_workers = min_workers

    def run(self, report: Callable[[ServiceVerdict], None]) -> Established:
        """Verify the service.

        Args:
            report: Gets every check that was made, also if one failed.

        Raises:
            VerificationError: A check failed: do not trust what answered.
            FormatError: An answer is malformed: do not trust what answered.
            PolicyError: The manifest is not valid now.
            UnavailableError: The gateway is unreachable, refuses, or needs more than SETUP_SECONDS.
        """
        manifest = self._manifest
        manifest.require_current(self._now())
        found = ServiceVerdict()
        until = setup_ends()
        try:
            nonce = os.urandom(NONCE_SIZE)
            answer = self._gateway.ask(
                "POST",
                "/confide/v1/attest",
                Nonce(nonce).encode(),
                limit=MAX_ATTESTATION,
                until=until,
            )
            attestation = Attestation.parse(answer)
            asked = time.monotonic()
            collateral = self._find_collateral(attestation.evidence, self._manifest)
            # Vendors have limits of their own.
            until += time.monotonic() - asked
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
            found = self._nodes(found, attestation, until)
            found.whole.require()
        finally:
            report(found)
        return Established(
            manifest=manifest,
            mesh_ca=attestation.mesh_ca,
            root_ca=attestation.root_ca,
            # Nothing is sent under an expired manifest.
            seconds=min(KEY_LIFETIME, manifest.expires - self._now()),
            attested=Attested(record, coordinator),
        )

    def _nodes(
        self, found: ServiceVerdict, attestation: Attestation, until: float
    ) -> ServiceVerdict:
        ask = partial(self._gateway.ask, "GET", until=until)
        cas = {"mesh_ca": attestation.mesh_ca, "root_ca": attestation.root_ca}
        models = [model.name for model in self._manifest.models]
        reply = KeyExchangeReply.parse(ask("/confide/v1/key-exchange", limit=MAX_REPLY))
        shown = WorkerList.parse(ask(workers_query(models), limit=MAX_LIST))
        workers = verify_workers(
            shown, minimum=self._min_workers, manifest=self._manifest, **cas, now=self._now()
        )
        services = verify_key_exchange(reply, **cas, now=self._now())
        return replace(found, secret_services=services, workers=workers)

    def _now(self) -> int:
        return int(self._clock())
