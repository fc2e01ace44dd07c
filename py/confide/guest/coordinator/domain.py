"""The coordinator: it holds the manifest and says who belongs to the mesh.

Rules of this module:

* The manifest is the one that this machine was launched for: other bytes are refused, unread. To
  change what is trusted, launch another coordinator. Clients notice, because they pin the
  manifest's bytes.
* Keys exist in this object only: the root CA from its start, the mesh CA from when the manifest is
  set. Nothing is written to disk.
* A node gets a certificate for exactly what its evidence binds: role, keys, models, manifest and
  mesh CA. The evidence answers one of our challenges. Only the manifest says what a node must
  measure.
* Anyone may bring the manifest, as there is only one that is taken. Anyone may add collateral, and
  nobody can take some away (`verify.items.merge`). Which items are of use is in the manifest, so
  none is taken before it is set.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from confide.errors import PolicyError, UnavailableError
from confide.guest.coordinator.ca import Authority, create_mesh_ca, create_root_ca, issue_leaf
from confide.guest.coordinator.challenges import Challenges
from confide.guest.coordinator.quotes import Quotes
from confide.protocol.binding import coordinator_report_data, join_report_data
from confide.protocol.certificates import load_public_key
from confide.protocol.collateral import Bundle
from confide.protocol.coordinator import (
    MAX_REASON,
    Attestation,
    CollateralReply,
    JoinReply,
    JoinRequest,
    MeshReply,
    RefusedItem,
    RefusedJoin,
)
from confide.protocol.evidence import Evidence
from confide.protocol.gpu import gpu_binding
from confide.protocol.history import append_entry, encode_history
from confide.protocol.kem import load_kem_public_key
from confide.protocol.manifest import Manifest
from confide.protocol.roles import Role
from confide.verify.collateral import taken_by
from confide.verify.evidence import verify_evidence
from confide.verify.items.merge import Collateral
from confide.verify.parsed import ParsedEvidence

if TYPE_CHECKING:
    from confide.guest.attest.service import Attester


@dataclass(frozen=True)
class _Mesh:
    """What exists once a manifest is set. It is never replaced."""

    manifest: Manifest
    manifest_bytes: bytes
    authority: Authority
    history: bytes


class Coordinator:
    """The domain object behind the HTTP app. Thread-safe.

    `binding` is the SHA-256 of the manifest that this machine was launched for. `now` gives unix
    seconds (certificates, evidence), `monotonic` seconds that only grow (challenges).
    """

    def __init__(
        self,
        attester: Attester,
        *,
        binding: bytes,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attester = attester
        self._binding = binding
        self._now = now
        self._root = create_root_ca(now=int(now()))
        self._challenges = Challenges(monotonic)
        self._mesh: _Mesh | None = None
        self._collateral = Collateral(monotonic)
        self._refused: RefusedJoin | None = None
        self._shown: tuple[Evidence, bytes] | None = None
        self._lock = threading.Lock()
        self._quotes = Quotes(self._attestation)

    @property
    def state(self) -> str:
        """Either "no-manifest" or "ready"."""
        return "ready" if self._mesh else "no-manifest"

    def set_manifest(self, data: bytes) -> bytes:
        """Set the manifest, or confirm that it has these bytes. Returns its SHA-256.

        Raises PolicyError if this machine was launched for another manifest, or if it has expired;
        FormatError if it is malformed. That it has expired is for the operator: this machine's
        clock is its host's, and clients look at their own.
        """
        seen = sha256(data).digest()
        if seen != self._binding:
            raise PolicyError(
                "wrong-manifest",
                "this coordinator was launched for another manifest",
                expected=f"SHA-256 {self._binding.hex()}",
                seen=f"SHA-256 {seen.hex()}",
                next="give it the manifest that it was launched for, or launch another coordinator",
            )
        manifest = Manifest.parse(data)
        with self._lock:
            if self._mesh is None:
                manifest.require_current(int(self._now()))
                self._mesh = self._start_mesh(manifest, data)
        return seen

    def add_collateral(self, data: bytes) -> CollateralReply:
        """Take those items of a bundle that are newer than what is held, genuine and of use.

        Raises UnavailableError without a manifest, FormatError for bytes that are not a bundle.
        """
        manifest, now = self._require_mesh().manifest, int(self._now())
        self._use_own(manifest, now)
        merged = self._collateral.merge(Bundle.parse(data), manifest, now)
        return CollateralReply(
            merged.added,
            merged.ignored,
            tuple(
                RefusedItem(name, error.code, ascii(str(error))[1:-1][:MAX_REASON])
                for name, error in merged.refused.items()
            ),
        )

    def collateral(self) -> bytes:
        """The bundle of all vendor collateral that evidence is verified with."""
        return self._collateral.encoded

    def refused(self) -> RefusedJoin:
        """The latest join whose evidence did not pass. The operator needs it to fetch collateral.

        Raises UnavailableError if there is none.
        """
        if self._refused is None:
            raise UnavailableError("none-refused", "this coordinator has not refused evidence yet")
        return self._refused

    def mesh(self) -> MeshReply:
        """The manifest and CAs, for nodes that join. Raises UnavailableError without a manifest."""
        mesh = self._require_mesh()
        return MeshReply(mesh.manifest_bytes, mesh.authority.der, self._root.der)

    def challenge(self) -> bytes:
        """A nonce for one join: 32 bytes."""
        return self._challenges.issue()

    def attest(self, nonce: bytes) -> Attestation:
        """Evidence, made for `nonce` and those that wait with it, that binds what it comes with.

        Before a manifest is set, manifest and mesh CA are empty and the history is an empty list.
        Raises UnavailableError if too many wait, and what the attester raises.
        """
        made, index, path = self._quotes.answer(nonce)
        return replace(made, index=index, path=path)

    def _attestation(self, root: bytes) -> Attestation:
        """Evidence for the nonces below `root`: manifest, CAs, history and time as they are now."""
        mesh = self._mesh
        now = int(self._now())
        manifest = mesh.manifest_bytes if mesh else b""
        mesh_ca = mesh.authority.der if mesh else b""
        history = mesh.history if mesh else encode_history([])
        data = coordinator_report_data(
            root,
            manifest=manifest,
            root_ca=self._root.der,
            mesh_ca=mesh_ca,
            history=history,
            time=now,
        )
        evidence = self._attester.evidence(data)
        self._shown = evidence, data
        return Attestation(
            evidence.encode(), manifest, history, self._root.der, mesh_ca, now, 0, ()
        )

    def join(self, request: JoinRequest) -> JoinReply:
        """Admit a node.

        Raises UnavailableError without a manifest, VerificationError if the challenge or the
        evidence is wrong, PolicyError if the manifest does not allow the role or its models,
        FormatError for malformed bytes.
        """
        mesh = self._require_mesh()
        # First, so that evidence for another challenge costs no time.
        self._challenges.check(request.nonce)
        self._check_allowed(mesh, request)
        load_public_key(request.public_key, "node")
        # Clients seal to each node: keys to a secret service, shares to a worker.
        load_kem_public_key(request.kem_public_key)
        evidence = ParsedEvidence.parse(request.evidence)
        collateral = self._collateral.bundle
        verdict = verify_evidence(
            evidence,
            report_data=join_report_data(
                request.nonce,
                role=request.role,
                public_key=request.public_key,
                kem_public_key=request.kem_public_key,
                manifest=mesh.manifest_bytes,
                models=request.models,
                mesh_ca=mesh.authority.der,
                gpus=gpu_binding(evidence.gpu_devices(), evidence.gpu_refusal),
            ),
            manifest=mesh.manifest,
            role=request.role,
            collateral=collateral,
            now=int(self._now()),
        )
        if not verdict.passed:
            self._refused = RefusedJoin(request.role, request.evidence)
        verdict.require()
        self._collateral.use_for(evidence, request.role, mesh.manifest, collateral)
        self._challenges.use(request.nonce)
        leaf = issue_leaf(
            mesh.authority,
            role=request.role,
            models=request.models,
            public_key=request.public_key,
            kem_public_key=request.kem_public_key,
            now=int(self._now()),
        )
        return JoinReply(leaf, mesh.authority.der, self._root.der)

    def _use_own(self, manifest: Manifest, now: int) -> None:
        """Nodes and clients verify this machine, so what its own evidence takes is in use, too."""
        if self._shown is None:
            return
        (evidence, report_data), bundle = self._shown, self._collateral.bundle
        parsed, role = ParsedEvidence(evidence), manifest.role(Role.COORDINATOR)
        names = taken_by(parsed, role, manifest, bundle)
        if (
            names
            and verify_evidence(
                parsed,
                report_data=report_data,
                manifest=manifest,
                role=Role.COORDINATOR,
                collateral=bundle,
                now=now,
            ).passed
        ):
            self._collateral.use(names, bundle)

    def _require_mesh(self) -> _Mesh:
        if self._mesh is None:
            raise UnavailableError(
                "no-manifest",
                "this coordinator has no manifest yet",
                next="set it with `confide set`",
            )
        return self._mesh

    def _start_mesh(self, manifest: Manifest, data: bytes) -> _Mesh:
        authority = create_mesh_ca(
            self._root, manifest_sha256=manifest.sha256, now=int(self._now())
        )
        history = append_entry(
            (),
            manifest_sha256=manifest.sha256,
            mesh_ca=authority.der,
            root_key=self._root.key,
        )
        return _Mesh(manifest, data, authority, encode_history(history))

    def _check_allowed(self, mesh: _Mesh, request: JoinRequest) -> None:
        if request.manifest_sha256 != mesh.manifest.sha256:
            raise PolicyError(
                "wrong-manifest",
                "the node has another manifest",
                expected=mesh.manifest.sha256.hex(),
                seen=request.manifest_sha256.hex(),
            )
        mesh.manifest.role(request.role)
        if request.role == Role.COORDINATOR:
            raise PolicyError("role-not-allowed", "a coordinator cannot join a mesh")
        if request.role == Role.SECRET_SERVICE and request.models:
            raise PolicyError("model-not-allowed", "the secret service serves no models")
        for name in request.models:
            if request.role not in mesh.manifest.model(name).roles:
                raise PolicyError(
                    "model-not-allowed",
                    f"the manifest does not let this role serve {name}",
                    expected=" or ".join(mesh.manifest.model(name).roles),
                    seen=request.role,
                )
