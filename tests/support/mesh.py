"""A small mesh at a fixed time, for tests of certificates, receipts and histories."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confide.guest.coordinator.ca import Authority, create_mesh_ca, create_root_ca, issue_leaf
from confide.protocol.kem import KemPrivateKey

NOW = 1_800_000_000


@dataclass(frozen=True)
class Mesh:
    root: Authority
    mesh: Authority
    key: ec.EllipticCurvePrivateKey
    kem: KemPrivateKey
    manifest_sha256: bytes
    now: int = NOW

    @property
    def spki(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def leaf(self, role: str = "worker-cpu", models: tuple[str, ...] = ("tiny",)) -> bytes:
        return issue_leaf(
            self.mesh,
            role=role,
            models=models,
            public_key=self.spki,
            kem_public_key=self.kem.public_bytes,
            now=self.now,
        )


def make_mesh() -> Mesh:
    root = create_root_ca(now=NOW)
    manifest_sha256 = bytes(range(32))
    mesh = create_mesh_ca(root, manifest_sha256=manifest_sha256, now=NOW)
    key = ec.generate_private_key(ec.SECP256R1())
    return Mesh(root, mesh, key, KemPrivateKey.generate(), manifest_sha256)
