"""How a machine becomes a member of the mesh and stays one.

Rules of this module:

* The (hostile) host says where the coordinator is. This machine verifies it as a client does
  (coordinator.py) before each join, and makes no evidence for one that did not pass. A forged,
  relayed, old or broken answer changes nothing but the time of the next try.
* A machine is in one mesh until it ends: the first one that it verified (one_mesh.py). The evidence
  binds the mesh CA, so no other coordinator can use it.
* Membership ends with the certificate: `membership()` then raises. Its age is also counted on a
  clock that the host cannot turn back.
* The machine ends with its mesh: when every verified coordinator shows another one for a minute,
  and when its certificate has ended. The program exits, and its unit powers the machine off.
* GPUs are set ready last, after everybody agreed. Nothing takes them back: whatever ends the
  membership ends the machine. So bad collateral at the coordinator harms no member whose
  certificate is valid.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confide.encoding.console import say
from confide.errors import ConfideError, UnavailableError, VerificationError
from confide.guest.codes import CODES
from confide.guest.ending import MachineEndsError, end_machine, without
from confide.guest.mesh.coordinator import VerifiedMesh, VerifierClient, verify_mesh
from confide.guest.mesh.kem import KemKeys
from confide.guest.mesh.one_mesh import OneMesh
from confide.net.codes import SHARED
from confide.net.loops import describe, every, start_loop
from confide.protocol.binding import join_report_data
from confide.protocol.certificates import LEAF_LIFETIME
from confide.protocol.coordinator import JoinReply, JoinRequest
from confide.protocol.evidence import Evidence
from confide.protocol.gpu import gpu_binding
from confide.protocol.keyexchange import worker_id_of
from confide.protocol.manifest import Manifest
from confide.verify.items.merge import Collateral
from confide.verify.mesh import verify_leaf

if TYPE_CHECKING:
    from confide.guest.attest.service import Attester

RENEW_AFTER = LEAF_LIFETIME * 3 // 4
"""Seconds after which a member attests again. The rest of the hour is for failed attempts."""

MAX_BACKOFF = 5.0
"""Most seconds between attempts: a coordinator gets its manifest some time after its start."""

LOOK_AFTER = 20.0
"""Seconds between two looks of a member whether its mesh is still there."""

PEER_ERROR = "peer-error"
"""The reason if the coordinator's error has a code that no program of ours has."""

_LEAF_POLL = 1.0


class JoinClient(VerifierClient, Protocol):
    """What a node needs of CoordinatorClient."""

    def challenge(self) -> bytes:
        """A nonce for one join."""

    def join(self, request: JoinRequest) -> JoinReply:
        """Ask to join."""


class Gpus(Protocol):
    """What a node needs of mesh.gpus.AttestedGpus, which a node without GPUs does not import."""

    def attest(
        self, attester: Attester, report_data: Callable[[bytes], bytes], mesh: VerifiedMesh
    ) -> tuple[Evidence, ConfideError | None]:
        """Evidence of machine and GPUs, and the reason to refuse the GPUs, or None."""

    def set_ready(self) -> None:
        """Allow the GPUs to take work."""


@dataclass(frozen=True)
class Membership:
    """One certificate and everything that goes with it. Certificates are DER."""

    role: str
    models: tuple[str, ...]
    private_key: ec.EllipticCurvePrivateKey
    certificate: bytes
    kem_public_key: bytes
    mesh_ca: bytes
    root_ca: bytes
    manifest: Manifest
    not_after: int
    joined: float

    @cached_property
    def worker_id(self) -> bytes:
        """How requests name this machine: SHA-256 of its public key, 32 bytes."""
        return worker_id_of(self.private_key.public_key())


class Node:
    """One machine's identity: a P-256 key, made with the object, and its current membership.

    `binding` is the SHA-256 of the manifest that the machine was launched for. `gpus` is for a
    worker with GPUs. `now` gives unix seconds, `monotonic` seconds that only grow. `kem` holds the
    private keys that the certificates name. Thread-safe once `start` was called.
    """

    def __init__(
        self,
        role: str,
        attester: Attester,
        client: JoinClient,
        *,
        binding: bytes,
        models: Sequence[str] = (),
        gpus: Gpus | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.role = role
        self._attester = attester
        self._client = client
        self._binding = binding
        self._models = tuple(models)
        self._gpus = gpus
        self._now = now
        self._monotonic = monotonic
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.kem = KemKeys(monotonic)
        self._mesh = OneMesh()
        self._collateral = Collateral(monotonic)
        self._backoff = 0.5
        self._membership: Membership | None = None
        self._reason = "starting"
        self._gpu_refusal = ""

    @property
    def state(self) -> str:
        """One of "starting" (before the first join), "ready" and "expired"."""
        if self._membership is None:
            return "starting"
        return "ready" if self._is_valid(self._membership) else "expired"

    @property
    def reason(self) -> str:
        """The code of the last attempt's error, "" if it succeeded.

        This machine's reason to refuse its own GPUs comes first: it says more than the
        coordinator's "not-verified".
        """
        return self._gpu_refusal or self._reason

    def membership(self) -> Membership:
        """The current membership. Raises UnavailableError if there is none or it has expired."""
        membership = self._membership
        if membership is None or not self._is_valid(membership):
            raise UnavailableError(
                "not-attested",
                f"this {self.role} is not a member of the mesh now",
                seen=self.reason,
                next="wait until the coordinator has attested it",
            )
        return membership

    def sign(self, data: bytes) -> bytes:
        """ECDSA P-256 with SHA-256 over `data`, DER, by the mesh key. Raises as `membership`."""
        return self.membership().private_key.sign(data, ec.ECDSA(hashes.SHA256()))

    def start(self) -> None:
        """Join and stay joined, in background threads. They end the program by the rules above."""
        start_loop("staying in the mesh", self._stay_joined)
        # A thread of its own: a coordinator that answers slowly must not keep the machine up.
        name = "the watch of its certificate"
        watch = every(_LEAF_POLL, self.kem.forget, self._require_leaf)
        start_loop(name, watch, end=without(name))

    def join(self) -> Membership:
        """One attempt to join, or to renew the certificate.

        Raises ConfideError if it fails, MachineEndsError if the machine has to end.
        """
        mesh = self._verified()
        public_key = self._key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        kem = self.kem.fresh()
        nonce = self._client.challenge()

        def report_data(gpus: bytes) -> bytes:
            return join_report_data(
                nonce,
                role=self.role,
                public_key=public_key,
                kem_public_key=kem.public_bytes,
                manifest=mesh.manifest_bytes,
                models=self._models,
                mesh_ca=mesh.mesh_ca,
                gpus=gpus,
            )

        evidence, refusal = self._evidence(report_data, mesh)
        started = self._monotonic()
        reply = self._client.join(
            JoinRequest(
                role=self.role,
                nonce=nonce,
                public_key=public_key,
                kem_public_key=kem.public_bytes,
                models=self._models,
                manifest_sha256=mesh.manifest.sha256,
                evidence=evidence.encode(),
            )
        )
        if refusal is not None:
            # Not earlier: the operator finds the refused evidence at the coordinator.
            raise refusal
        not_after = self._check_leaf(reply, mesh, kem.sha256)
        if self._gpus is not None:
            self._gpus.set_ready()
        self._require_leaf()
        self.kem.certified(kem, issued=started)
        membership = Membership(
            role=self.role,
            models=self._models,
            private_key=self._key,
            certificate=reply.certificate,
            kem_public_key=kem.public_bytes,
            mesh_ca=mesh.mesh_ca,
            root_ca=mesh.root_ca,
            manifest=mesh.manifest,
            not_after=not_after,
            joined=started,
        )
        self._membership = membership
        return membership

    def look(self) -> None:
        """Ask whether the mesh is still there. Raises as `join`.

        An unverified answer is enough to see no change. A change is verified, and so is each
        answer after it until a verified coordinator shows our mesh.
        """
        if self._mesh.in_doubt or self._client.mesh().mesh_ca != self._mesh.mesh_ca:
            self._verified()

    def step(self) -> float:
        """Join, renew or look, whichever is due. Returns the seconds until the next step.

        Errors are noted as `reason` and answered by the next step. Raises MachineEndsError.
        """
        self._require_leaf()
        renewal = self._until_renewal()
        try:
            if renewal > 0:
                self.look()
            else:
                self.join()
        except MachineEndsError:
            raise
        except Exception as error:  # for every error the answer is to try again
            self._note(error, "looking for the mesh" if renewal > 0 else "joining")
            if renewal > 0:
                return min(LOOK_AFTER, renewal)
            self._backoff = min(self._backoff * 2, MAX_BACKOFF)
            return self._backoff * random.uniform(0.5, 1.0)  # noqa: S311  spreads load, no secret
        if renewal <= 0 and self._reason:
            say(f"joined the mesh as {self.role}")
        self._reason = ""
        self._backoff = 0.5
        return min(LOOK_AFTER, self._until_renewal())

    def _verified(self) -> VerifiedMesh:
        """The mesh that the coordinator shows, verified; it is ours, or becomes ours."""
        asked = self._monotonic()
        mesh = verify_mesh(
            self._client,
            binding=self._binding,
            collateral=self._collateral,
            now=int(self._now()),
        )
        mesh.manifest.role(self.role)
        self._mesh.verified(mesh.mesh_ca, asked=asked, answered=self._monotonic())
        return mesh

    def _evidence(
        self, report_data: Callable[[bytes], bytes], mesh: VerifiedMesh
    ) -> tuple[Evidence, ConfideError | None]:
        """Evidence for the coordinator, and the reason to refuse the GPUs, or None."""
        if self._gpus is None:
            return self._attester.evidence(report_data(gpu_binding(()))), None
        evidence, refusal = self._gpus.attest(self._attester, report_data, mesh)
        self._gpu_refusal = "" if refusal is None else refusal.code
        return evidence, refusal

    def _check_leaf(self, reply: JoinReply, mesh: VerifiedMesh, kem_sha256: bytes) -> int:
        if (reply.mesh_ca, reply.root_ca) != (mesh.mesh_ca, mesh.root_ca):
            raise VerificationError("mesh-changed", "the certificate comes from another mesh")
        identity = verify_leaf(
            reply.certificate, mesh.mesh_ca, mesh.root_ca, role=self.role, now=int(self._now())
        )
        expected = (self._models, kem_sha256, self._key.public_key())
        if (identity.models, identity.kem_key_sha256, identity.public_key) != expected:
            raise VerificationError("wrong-certificate", "the certificate is not the requested one")
        return identity.not_after

    def _is_valid(self, membership: Membership) -> bool:
        age = self._monotonic() - membership.joined
        return self._now() < membership.not_after and age < LEAF_LIFETIME

    def _until_renewal(self) -> float:
        """Seconds until the certificate is to be renewed; 0 before the first join."""
        if self._membership is None:
            return 0.0
        return max(0.0, self._membership.joined + RENEW_AFTER - self._monotonic())

    def _require_leaf(self) -> None:
        """Raise MachineEndsError if this machine was a member and its certificate has ended."""
        if self.state == "expired":
            raise MachineEndsError(
                f"its certificate has ended, last error: {self.reason or 'none'}"
            )

    def _note(self, error: Exception, what: str) -> None:
        reason = error.code if isinstance(error, ConfideError) else type(error).__name__
        if isinstance(error, ConfideError) and reason not in CODES | SHARED:
            # The peer chose it, and health shows it: "ready" would be taken for a state.
            reason = PEER_ERROR
        if reason != self._reason:
            # Once per kind of error. The words may be the coordinator's.
            say(f"{what} failed: {describe(error)}")
        self._reason = reason

    def _stay_joined(self) -> float:
        try:
            return self.step()
        except MachineEndsError as error:
            end_machine(error)
