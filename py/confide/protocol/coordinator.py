"""The coordinator's messages: deterministic CBOR maps in HTTP bodies, each read strictly.

Certificates are DER, nonces and digests 32 bytes, `evidence` an encoded `Evidence`.
"""

from __future__ import annotations

from dataclasses import dataclass

from confide.encoding.canonical import cbor_decode, cbor_encode
from confide.encoding.fields import Fields
from confide.encoding.x509 import MAX_DER
from confide.protocol.binding import NONCE_SIZE
from confide.protocol.evidence import MAX_EVIDENCE
from confide.protocol.manifest import MAX_MANIFEST

MAX_KEM_KEY = 4096
MAX_HISTORY = 1 << 20
MAX_ATTESTATION = MAX_EVIDENCE + MAX_MANIFEST + MAX_HISTORY + 2 * MAX_DER + 1024
MAX_JOIN = MAX_EVIDENCE + MAX_DER + MAX_KEM_KEY + (1 << 17)
MAX_SET_MANIFEST = MAX_MANIFEST + 64


def encode_nonce(nonce: bytes) -> bytes:
    """{nonce}: the request of POST /v1/attest and the answer of POST /v1/challenge."""
    return cbor_encode({"nonce": nonce})


def parse_nonce(data: bytes) -> bytes:
    """32 bytes. Raises FormatError."""
    fields = Fields(cbor_decode(data, what="nonce message", limit=256), "the nonce message")
    nonce = fields.blob("nonce", length=NONCE_SIZE)
    fields.done()
    return nonce


def encode_set_manifest(manifest: bytes) -> bytes:
    """{manifest}: the request of POST /v1/manifest."""
    return cbor_encode({"manifest": manifest})


def parse_set_manifest(data: bytes) -> bytes:
    """The manifest's bytes, not parsed. Raises FormatError."""
    message = cbor_decode(data, what="manifest message", limit=MAX_SET_MANIFEST)
    fields = Fields(message, "the manifest message")
    manifest = fields.blob("manifest", max_length=MAX_MANIFEST)
    fields.done()
    return manifest


def encode_manifest_set(sha256: bytes) -> bytes:
    """{sha256}: the answer of POST /v1/manifest."""
    return cbor_encode({"sha256": sha256})


def parse_manifest_set(data: bytes) -> bytes:
    """32 bytes. Raises FormatError."""
    fields = Fields(cbor_decode(data, what="manifest answer", limit=256), "the manifest answer")
    sha256 = fields.blob("sha256", length=32)
    fields.done()
    return sha256


@dataclass(frozen=True)
class Attestation:
    """POST /v1/attest: evidence and everything it binds. `mesh_ca` and `manifest` may be empty."""

    evidence: bytes
    manifest: bytes
    history: bytes
    root_ca: bytes
    mesh_ca: bytes

    def encode(self) -> bytes:
        """At most `MAX_ATTESTATION` bytes."""
        return cbor_encode(
            {
                "evidence": self.evidence,
                "manifest": self.manifest,
                "history": self.history,
                "root_ca": self.root_ca,
                "mesh_ca": self.mesh_ca,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Attestation:
        """Raises FormatError. What the fields hold is not read here."""
        message = cbor_decode(data, what="attestation", limit=MAX_ATTESTATION)
        fields = Fields(message, "the attestation")
        attestation = cls(
            evidence=fields.blob("evidence", max_length=MAX_EVIDENCE),
            manifest=fields.blob("manifest", max_length=MAX_MANIFEST),
            history=fields.blob("history", max_length=MAX_HISTORY),
            root_ca=fields.blob("root_ca", max_length=MAX_DER),
            mesh_ca=fields.blob("mesh_ca", max_length=MAX_DER),
        )
        fields.done()
        return attestation


@dataclass(frozen=True)
class MeshReply:
    """GET /v1/manifest: what a node needs before it can make its evidence."""

    manifest: bytes
    mesh_ca: bytes
    root_ca: bytes

    def encode(self) -> bytes:
        """As CBOR."""
        return cbor_encode(
            {"manifest": self.manifest, "mesh_ca": self.mesh_ca, "root_ca": self.root_ca}
        )

    @classmethod
    def parse(cls, data: bytes) -> MeshReply:
        """Raises FormatError."""
        message = cbor_decode(data, what="manifest reply", limit=MAX_ATTESTATION)
        fields = Fields(message, "the manifest reply")
        reply = cls(
            manifest=fields.blob("manifest", max_length=MAX_MANIFEST),
            mesh_ca=fields.blob("mesh_ca", max_length=MAX_DER),
            root_ca=fields.blob("root_ca", max_length=MAX_DER),
        )
        fields.done()
        return reply


@dataclass(frozen=True)
class JoinRequest:
    """POST /v1/join: who a node claims to be, with evidence for it.

    `public_key` is the SPKI DER of its P-256 mesh key; `kem_public_key` is empty for all roles but
    the secret service.
    """

    role: str
    nonce: bytes
    public_key: bytes
    kem_public_key: bytes
    models: tuple[str, ...]
    manifest_sha256: bytes
    evidence: bytes

    def encode(self) -> bytes:
        """At most `MAX_JOIN` bytes."""
        return cbor_encode(
            {
                "role": self.role,
                "nonce": self.nonce,
                "public_key": self.public_key,
                "kem_public_key": self.kem_public_key,
                "models": list(self.models),
                "manifest_sha256": self.manifest_sha256,
                "evidence": self.evidence,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> JoinRequest:
        """Raises FormatError."""
        fields = Fields(cbor_decode(data, what="join request", limit=MAX_JOIN), "the join request")
        join = cls(
            role=fields.name("role"),
            nonce=fields.blob("nonce", length=NONCE_SIZE),
            public_key=fields.blob("public_key", max_length=MAX_DER),
            kem_public_key=fields.blob("kem_public_key", max_length=MAX_KEM_KEY),
            models=fields.names("models"),
            manifest_sha256=fields.blob("manifest_sha256", length=32),
            evidence=fields.blob("evidence", max_length=MAX_EVIDENCE),
        )
        fields.done()
        return join


@dataclass(frozen=True)
class RefusedJoin:
    """GET /v1/refused: a join whose evidence did not pass, for whoever looks for collateral."""

    role: str
    evidence: bytes

    def encode(self) -> bytes:
        """As CBOR."""
        return cbor_encode({"role": self.role, "evidence": self.evidence})

    @classmethod
    def parse(cls, data: bytes) -> RefusedJoin:
        """Raises FormatError."""
        message = cbor_decode(data, what="refused join", limit=MAX_JOIN)
        fields = Fields(message, "the refused join")
        refused = cls(fields.name("role"), fields.blob("evidence", max_length=MAX_EVIDENCE))
        fields.done()
        return refused


@dataclass(frozen=True)
class JoinReply:
    """The answer of POST /v1/join: the node's certificate and the CAs above it."""

    certificate: bytes
    mesh_ca: bytes
    root_ca: bytes

    def encode(self) -> bytes:
        """As CBOR."""
        return cbor_encode(
            {
                "certificate": self.certificate,
                "mesh_ca": self.mesh_ca,
                "root_ca": self.root_ca,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> JoinReply:
        """Raises FormatError."""
        message = cbor_decode(data, what="join reply", limit=4 * MAX_DER)
        fields = Fields(message, "the join reply")
        reply = cls(
            certificate=fields.blob("certificate", max_length=MAX_DER),
            mesh_ca=fields.blob("mesh_ca", max_length=MAX_DER),
            root_ca=fields.blob("root_ca", max_length=MAX_DER),
        )
        fields.done()
        return reply
