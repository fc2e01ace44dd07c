"""Fixed inputs of the protocol's test vectors. Every key in here is public and protects nothing."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confide.protocol.engine_options import EngineOptions
from confide.protocol.kem import KemPrivateKey
from confide.protocol.manifest import Manifest, Platforms, RoleEntry
from confide.protocol.model import Model
from confide.protocol.policy.vtpm import REQUIRED_PCRS, DevelopmentCa, VtpmReference
from confide.protocol.roles import Role
from confide.protocol.validity import DAY, DEFAULT_DAYS

NOW = 1_800_000_000

Vector = dict[str, Any]


def octets(label: str) -> bytes:
    """32 bytes that anybody can make again: SHA-256 of a label."""
    return sha256(f"confide test vector: {label}".encode()).digest()


def private_key(label: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key whose scalar is `octets(label)`; these labels give scalars below the order."""
    return ec.derive_private_key(int.from_bytes(octets(label), "big"), ec.SECP256R1())


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """RFC 6979, so that the vector stays; verifiers accept any ECDSA signature."""
    return key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def manifest() -> Manifest:
    """The manifest that all other vectors are for."""
    roles = {
        role: RoleEntry(
            (VtpmReference("q35-2", {i: octets(f"{role} {i}") for i in REQUIRED_PCRS}),)
        )
        for role in (Role.COORDINATOR, Role.SECRET_SERVICE, Role.WORKER_CPU)
    }
    model = Model(
        "tiny",
        octets("root hash"),
        8192,
        ("chat", "completion"),
        ("worker-cpu",),
        EngineOptions(max_model_len=4096, dtype="float32"),
    )
    platforms = Platforms(vtpm=DevelopmentCa(octets("development CA")))
    return Manifest(
        "development", platforms, roles, (model,), released=NOW, expires=NOW + DEFAULT_DAYS * DAY
    )


def kem(owner: str) -> KemPrivateKey:
    """The KEM key pair of the secret service or the worker, from fixed secrets."""
    return KemPrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(_mlkem_seed(owner)),
        X25519PrivateKey.from_private_bytes(octets(f"{owner} X25519")),
    )


def _mlkem_seed(owner: str) -> bytes:
    return octets(f"{owner} ML-KEM d") + octets(f"{owner} ML-KEM z")


def kem_vector(owner: str) -> Vector:
    return {
        "mlkem_seed": _mlkem_seed(owner).hex(),
        "x25519_private": octets(f"{owner} X25519").hex(),
        "kem_public_key": kem(owner).public_bytes.hex(),
    }
