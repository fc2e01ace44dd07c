"""How a machine becomes a member of the mesh and stays one.

Rules of this module:

* The (hostile) host says where the coordinator is, so this machine does not trust what it finds
  there. It does not have to: another coordinator can only certify this machine for a mesh that no
  client trusts.
* That holds only if a machine is never in two meshes. Otherwise a man in the middle could get our
  KEM key certified in the real mesh while we accept clients of his own mesh. So the evidence binds
  the mesh CA, and this process joins only the first mesh CA that it made evidence for.
* Membership ends with the certificate: `membership()` then raises. Its age is also counted on a
  clock that the host cannot turn back.
* GPUs are set ready last, and set not ready when they fail while this process has no membership.
  Not earlier, because that is final: bad collateral at the coordinator must not end the GPUs of
  every member.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confide.errors import ConfideError, UnavailableError, VerificationError
from confide.protocol.binding import join_report_data
from confide.protocol.certificates import LEAF_LIFETIME
from confide.protocol.coordinator import JoinReply, JoinRequest, MeshReply
from confide.protocol.evidence import Evidence
from confide.protocol.gpu import gpu_binding
from confide.protocol.manifest import Manifest
from confide.verify.mesh import verify_leaf, verify_mesh_ca

if TYPE_CHECKING:
    from confide.guest.attest.service import Attester

RENEW_AFTER = LEAF_LIFETIME * 3 // 4
"""Seconds after which a member attests again. The rest of the hour is for failed attempts."""

MAX_BACKOFF = 5.0
"""Most seconds between attempts: a coordinator gets its manifest some time after its start."""


class JoinClient(Protocol):
    """What a node needs of CoordinatorClient."""

    def mesh(self) -> MeshReply:
        """The current manifest and CAs."""

    def challenge(self) -> bytes:
        """A nonce for one join."""

    def join(self, request: JoinRequest) -> JoinReply:
        """Ask to join."""


class Gpus(Protocol):
    """What a node needs of mesh.gpus.AttestedGpus, which a node without GPUs does not import."""

    def attest(
        self, attester: Attester, report_data: Callable[[bytes], bytes], manifest: Manifest
    ) -> tuple[Evidence, ConfideError | None]:
        """Evidence of machine and GPUs, and the reason to refuse the GPUs, or None."""

    def set_ready(self, ready: bool) -> None:
        """Allow the GPUs to take work, or forbid it for good."""


@dataclass(frozen=True)
class Membership:
    """One certificate and everything that goes with it. Certificates are DER."""

    role: str
    models: tuple[str, ...]
    private_key: ec.EllipticCurvePrivateKey
    certificate: bytes
    mesh_ca: bytes
    root_ca: bytes
    manifest: Manifest
    not_after: int
    joined: float


class Node:
    """One machine's identity: a P-256 key, made with the object, and its current membership.

    `kem_public_key` is for the secret service only, `gpus` for a worker with GPUs. `now` gives unix
    seconds, `monotonic` seconds that only grow. Thread-safe once `start` was called.
    """

    def __init__(
        self,
        role: str,
        attester: Attester,
        client: JoinClient,
        *,
        models: Sequence[str] = (),
        kem_public_key: bytes = b"",
        gpus: Gpus | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.role = role
        self._attester = attester
        self._client = client
        self._models = tuple(models)
        self._kem_public_key = kem_public_key
        self._gpus = gpus
        self._now = now
        self._monotonic = monotonic
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._pinned: MeshReply | None = None
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
        """Join and stay joined, in a background thread."""
        threading.Thread(target=self._stay_joined, name="mesh", daemon=True).start()

    def join(self) -> Membership:
        """One attempt to join, or to renew the certificate. Raises ConfideError if it fails."""
        mesh = self._client.mesh()
        manifest = self._check_mesh(mesh)
        public_key = self._key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        nonce = self._client.challenge()

        def report_data(gpus: bytes) -> bytes:
            return join_report_data(
                nonce,
                role=self.role,
                public_key=public_key,
                kem_public_key=self._kem_public_key,
                manifest=mesh.manifest,
                models=self._models,
                mesh_ca=mesh.mesh_ca,
                gpus=gpus,
            )

        evidence, refusal = self._evidence(report_data, manifest)
        started = self._monotonic()
        reply = self._client.join(
            JoinRequest(
                role=self.role,
                nonce=nonce,
                public_key=public_key,
                kem_public_key=self._kem_public_key,
                models=self._models,
                manifest_sha256=manifest.sha256,
                evidence=evidence.encode(),
            )
        )
        if refusal is not None:
            # Not earlier: the operator finds the refused evidence at the coordinator.
            raise refusal
        not_after = self._check_leaf(reply, mesh)
        if self._gpus is not None:
            self._gpus.set_ready(True)
        membership = Membership(
            role=self.role,
            models=self._models,
            private_key=self._key,
            certificate=reply.certificate,
            mesh_ca=mesh.mesh_ca,
            root_ca=mesh.root_ca,
            manifest=manifest,
            not_after=not_after,
            joined=started,
        )
        self._membership = membership
        return membership

    def _evidence(
        self, report_data: Callable[[bytes], bytes], manifest: Manifest
    ) -> tuple[Evidence, ConfideError | None]:
        """Evidence for the coordinator, and the reason to refuse the GPUs, or None."""
        if self._gpus is None:
            return self._attester.evidence(report_data(gpu_binding(()))), None
        evidence, refusal = self._gpus.attest(self._attester, report_data, manifest)
        self._gpu_refusal = "" if refusal is None else refusal.code
        if refusal is not None and self.state != "ready":
            # GPUs without confidential mode have no such state. The refusal says what is wrong.
            with suppress(ConfideError):
                self._gpus.set_ready(False)
        return evidence, refusal

    def _check_mesh(self, mesh: MeshReply) -> Manifest:
        """Stay with the first mesh. Call it before evidence is made: see the rules above."""
        manifest = Manifest.parse(mesh.manifest)
        manifest.role(self.role)
        verify_mesh_ca(
            mesh.mesh_ca, mesh.root_ca, manifest_sha256=manifest.sha256, now=int(self._now())
        )
        if self._pinned is None:
            self._pinned = mesh
        elif self._pinned != mesh:
            raise VerificationError(
                "mesh-changed",
                "the coordinator or its manifest has changed",
                expected=f"mesh CA {sha256(self._pinned.mesh_ca).hexdigest()}",
                seen=f"mesh CA {sha256(mesh.mesh_ca).hexdigest()}",
                next="restart this machine if the change is meant",
            )
        return manifest

    def _check_leaf(self, reply: JoinReply, mesh: MeshReply) -> int:
        if (reply.mesh_ca, reply.root_ca) != (mesh.mesh_ca, mesh.root_ca):
            raise VerificationError("mesh-changed", "the certificate comes from another mesh")
        identity = verify_leaf(
            reply.certificate, mesh.mesh_ca, mesh.root_ca, role=self.role, now=int(self._now())
        )
        kem_hash = sha256(self._kem_public_key).digest() if self._kem_public_key else None
        expected = (self._models, kem_hash, self._key.public_key())
        if (identity.models, identity.kem_key_sha256, identity.public_key) != expected:
            raise VerificationError("wrong-certificate", "the certificate is not the requested one")
        return identity.not_after

    def _is_valid(self, membership: Membership) -> bool:
        age = self._monotonic() - membership.joined
        return self._now() < membership.not_after and age < LEAF_LIFETIME

    def _stay_joined(self) -> None:
        delay = 0.5
        while True:
            try:
                self.join()
            except Exception as error:  # for every error the answer is to try again
                reason = error.code if isinstance(error, ConfideError) else type(error).__name__
                if reason != self._reason:
                    # Once per kind of error. !a because the words may be the coordinator's.
                    print(f"confide: joining failed: {str(error)!a}", file=sys.stderr, flush=True)
                self._reason = reason
                delay = min(delay * 2, MAX_BACKOFF)
                time.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  spreads load, no secret
            else:
                if self._reason:
                    print(f"confide: joined the mesh as {self.role}", file=sys.stderr, flush=True)
                self._reason = ""
                delay = 0.5
                time.sleep(RENEW_AFTER)
