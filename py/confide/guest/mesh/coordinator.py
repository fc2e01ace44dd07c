"""Verifies the coordinator that this machine is led to, before it sees anything of this machine.

The host says where the coordinator is, and carries each answer. So nothing that comes back is
believed before all of it has passed the checks that a client makes (`verify.service`): the manifest
is the one that this machine was launched for, and fresh evidence, over a nonce of this machine,
binds it and the CAs. Collateral comes from the same peer: vendors sign it, so the carrier does not
matter. It is added to what this machine has, so no answer takes any of that away.

The time is this machine's, so it is the host's. The coordinator's evidence binds the coordinator's
time, and the two have to agree (`clocks-apart`). A host that turns the clock of one machine only
stops that machine. To keep old collateral valid here, it has to turn the clocks of both.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from confide.errors import VerificationError
from confide.protocol.binding import NONCE_SIZE
from confide.protocol.collateral import Bundle
from confide.protocol.coordinator import Attestation, MeshReply
from confide.protocol.manifest import Manifest
from confide.protocol.roles import Role
from confide.protocol.validity import require_near
from confide.verify.items.merge import Collateral
from confide.verify.parsed import ParsedEvidence
from confide.verify.service import COORDINATOR_CLOCK, verify_coordinator
from confide.verify.verdict import COLLATERAL, Verdict


class VerifierClient(Protocol):
    """What verifying a coordinator needs of CoordinatorClient."""

    def mesh(self) -> MeshReply:
        """What the coordinator says its manifest and CAs are. Costs it no evidence."""

    def attest(self, nonce: bytes) -> bytes:
        """An encoded Attestation for this nonce."""

    def collateral(self) -> Bundle:
        """The vendor collateral that the coordinator has."""


@dataclass(frozen=True)
class VerifiedMesh:
    """What a verified coordinator showed. Certificates are DER.

    `collateral` is what this machine holds: also the vendors' statements that the coordinator has.
    """

    manifest_bytes: bytes
    manifest: Manifest
    mesh_ca: bytes
    root_ca: bytes
    collateral: Collateral


def verify_mesh(
    client: VerifierClient, *, binding: bytes, collateral: Collateral, now: int
) -> VerifiedMesh:
    """Ask the coordinator for its proof, and verify it.

    Args:
        client: calls the coordinator.
        binding: SHA-256 of the manifest that this machine was launched for, 32 bytes.
        collateral: what this machine holds; it gets the coordinator's.
        now: unix seconds.

    Raises:
        VerificationError: `wrong-manifest` if the coordinator has another manifest,
            `clocks-apart` if its time is not this machine's, `coordinator-not-verified` if
            another check of its proof fails.
        ConfideError: an answer is malformed or did not come.
    """
    # First what is cheap for both: most coordinators that do not fit are ones without a manifest.
    manifest_bytes = client.mesh().manifest
    if sha256(manifest_bytes).digest() != binding:
        raise VerificationError(
            "wrong-manifest",
            "the coordinator has another manifest than this machine was launched for",
            expected=f"SHA-256 {binding.hex()}",
            seen=f"SHA-256 {sha256(manifest_bytes).hexdigest()}",
            next="give the coordinator that manifest, or launch this machine for the other one",
        )
    nonce = secrets.token_bytes(NONCE_SIZE)
    attestation = Attestation.parse(client.attest(nonce))
    manifest = Manifest.parse(manifest_bytes)
    collateral.merge(client.collateral(), manifest, now)
    bundle = collateral.bundle
    verdict = verify_coordinator(
        attestation, manifest_pinned=manifest_bytes, nonce=nonce, collateral=bundle, now=now
    )
    _require(verdict, attestation.time, now)
    evidence = ParsedEvidence.parse(attestation.evidence)
    collateral.use_for(evidence, Role.COORDINATOR, manifest, bundle)
    return VerifiedMesh(
        manifest_bytes,
        manifest,
        attestation.mesh_ca,
        attestation.root_ca,
        collateral,
    )


def _require(verdict: Verdict, attested: int, now: int) -> None:
    """As `Verdict.require`, with codes that say whose evidence failed, or that it is the time."""
    failed = verdict.first_failed
    if failed is None and verdict.passed:
        return
    if failed is not None and failed.name == COORDINATOR_CLOCK:
        # Under its own name, because waiting does not help: no clock here corrects itself.
        require_near(attested, now=now)
    raise VerificationError(
        "coordinator-not-verified",
        f"the coordinator is not verified yet: its check {failed.name!r} failed"
        if failed
        else "nothing of the coordinator was checked",
        expected=failed.expected if failed else "",
        seen=failed.seen if failed else "",
        next="give the coordinator its collateral with `confide set`"
        if failed and failed.source == COLLATERAL
        else "check that this address leads to the coordinator of the manifest",
    )
