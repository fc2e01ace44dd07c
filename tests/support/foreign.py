"""The vectors' certificates and a mesh of now as files, for programs that are not ours."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from confide.encoding.x509 import load_certificate
from confide.guest.coordinator.ca import create_mesh_ca, create_root_ca, issue_leaf
from confide.guest.mesh.join import Membership
from confide.protocol.certificates import LEAF_LIFETIME
from confide.protocol.manifest import Manifest
from tests.support.simulated_machine import current_manifest

_FILE = Path(__file__).parents[1] / "vectors/protocol.json"
CERTIFICATES: dict[str, Any] = json.loads(_FILE.read_text())["certificates"]
CHAINS = {
    "secret_service": "secret-service.confide.internal",
    "worker": "worker-cpu.confide.internal",
}
"""Each leaf of the vectors, and its host name."""


def write_vectors(folder: Path) -> dict[str, Path]:
    """Every certificate of the vectors as NAME.der, by name."""
    files = {name: folder / f"{name}.der" for name in CERTIFICATES["names"]}
    for name, path in files.items():
        path.write_bytes(bytes.fromhex(CERTIFICATES[name]))
    return files


@dataclass(frozen=True)
class Member:
    """A node. In PEM files, `chain` is leaf and mesh CA, as a TLS program sends them."""

    chain: Path
    key: Path
    leaf: bytes
    membership: Membership


@dataclass(frozen=True)
class LiveMesh:
    """A mesh of this moment; `root` and `mesh` are PEM files of one certificate."""

    folder: Path
    root: Path
    mesh: Path
    members: dict[str, Member]


def live_mesh(folder: Path) -> LiveMesh:
    """Make a mesh with a secret service and a worker."""
    folder.mkdir(parents=True, exist_ok=True)
    now = int(time.time())
    root_ca = create_root_ca(now=now)
    manifest = Manifest.parse(current_manifest())
    mesh_ca = create_mesh_ca(root_ca, manifest_sha256=manifest.sha256, now=now)
    files = {"root.pem": root_ca, "mesh.pem": mesh_ca}
    for name, authority in files.items():
        (folder / name).write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    members = {}
    for role in ("secret-service", "worker-cpu"):
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = issue_leaf(
            mesh_ca,
            role=role,
            models=["tiny"],
            public_key=key.public_key().public_bytes(
                Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            ),
            kem_public_key=b"k",
            now=now,
        )
        membership = Membership(
            role=role,
            models=("tiny",),
            private_key=key,
            certificate=leaf,
            kem_public_key=b"k",
            mesh_ca=mesh_ca.der,
            root_ca=root_ca.der,
            manifest=manifest,
            not_after=now + LEAF_LIFETIME,
            joined=time.monotonic(),
        )
        member = Member(folder / f"{role}.pem", folder / f"{role}.key", leaf, membership)
        member.chain.write_bytes(
            load_certificate(leaf, "leaf").public_bytes(Encoding.PEM)
            + mesh_ca.certificate.public_bytes(Encoding.PEM)
        )
        member.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        members[role] = member
    return LiveMesh(folder, folder / "root.pem", folder / "mesh.pem", members)
