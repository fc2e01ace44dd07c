"""The coordinator's messages: deterministic CBOR maps in HTTP bodies, each read strictly.

Certificates are DER, nonces and digests 32 bytes, `evidence` an encoded `Evidence`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from confide.encoding.messages import CborMessage
from confide.encoding.x509 import MAX_DER
from confide.errors import FormatError
from confide.protocol.binding import NONCE_SIZE
from confide.protocol.collateral import ITEM_NAME, MAX_ITEMS
from confide.protocol.evidence import MAX_EVIDENCE
from confide.protocol.manifest import MAX_MANIFEST
from confide.protocol.nonce_tree import HASH_SIZE, MAX_DEPTH
from confide.protocol.validity import LAST_TIME
from measure.declare import Nested
from measure.kinds import Blob, Integer, ListOf, Name, Text

MAX_KEM_KEY = 4096
MAX_HISTORY = 1 << 20
MAX_ATTESTATION = MAX_EVIDENCE + MAX_MANIFEST + MAX_HISTORY + 2 * MAX_DER + 1024
MAX_JOIN = MAX_EVIDENCE + MAX_DER + MAX_KEM_KEY + (1 << 17)
MAX_REASON = 200
MAX_COLLATERAL_REPLY = 2 << 20
MAX_SET_MANIFEST = MAX_MANIFEST + 64

_CERTIFICATE = Blob(max_size=MAX_DER)
_NAMES = ListOf(ITEM_NAME, MAX_ITEMS)


@dataclass(frozen=True)
class Nonce(CborMessage, what="the nonce message", limit=256):
    """The request of POST /v1/attest and the answer of POST /v1/challenge: 32 bytes."""

    nonce: Annotated[bytes, Blob(NONCE_SIZE)]


@dataclass(frozen=True)
class SetManifest(CborMessage, what="the manifest message", limit=MAX_SET_MANIFEST):
    """The request of POST /v1/manifest: the manifest's bytes, not parsed."""

    manifest: Annotated[bytes, Blob(max_size=MAX_MANIFEST)]


@dataclass(frozen=True)
class ManifestSet(CborMessage, what="the manifest answer", limit=256):
    """The answer of POST /v1/manifest: SHA-256 of the manifest that is set."""

    sha256: Annotated[bytes, Blob(32)]


@dataclass(frozen=True)
class Attestation(CborMessage, what="the attestation", limit=MAX_ATTESTATION):
    """POST /v1/attest: evidence and everything it binds. `mesh_ca` and `manifest` may be empty.

    `time` is the coordinator's, in unix seconds. `index` and `path` lead from the nonce to the root
    that the evidence binds (`protocol.nonce_tree`). What the other fields hold is not read here.
    """

    evidence: Annotated[bytes, Blob(max_size=MAX_EVIDENCE)]
    manifest: Annotated[bytes, Blob(max_size=MAX_MANIFEST)]
    history: Annotated[bytes, Blob(max_size=MAX_HISTORY)]
    root_ca: Annotated[bytes, _CERTIFICATE]
    mesh_ca: Annotated[bytes, _CERTIFICATE]
    time: Annotated[int, Integer(maximum=LAST_TIME)]
    index: Annotated[int, Integer(maximum=(1 << MAX_DEPTH) - 1)]
    path: Annotated[tuple[bytes, ...], ListOf(Blob(HASH_SIZE), MAX_DEPTH)]

    def __post_init__(self) -> None:
        if self.index >> len(self.path):
            raise FormatError(
                "bad-nonce-path",
                "the attestation's place is not in a tree of its depth",
                expected=f"an index below {1 << len(self.path)}",
                seen=str(self.index),
            )


@dataclass(frozen=True)
class MeshReply(CborMessage, what="the manifest reply", limit=MAX_ATTESTATION):
    """GET /v1/manifest: what a node needs before it can make its evidence."""

    manifest: Annotated[bytes, Blob(max_size=MAX_MANIFEST)]
    mesh_ca: Annotated[bytes, _CERTIFICATE]
    root_ca: Annotated[bytes, _CERTIFICATE]


@dataclass(frozen=True)
class JoinRequest(CborMessage, what="the join request", limit=MAX_JOIN):
    """POST /v1/join: the role that a node claims, with evidence for it.

    `public_key` is the SPKI DER of its P-256 mesh key, `kem_public_key` its KEM key of 1,216 bytes.
    """

    role: Annotated[str, Name()]
    nonce: Annotated[bytes, Blob(NONCE_SIZE)]
    public_key: Annotated[bytes, _CERTIFICATE]
    kem_public_key: Annotated[bytes, Blob(max_size=MAX_KEM_KEY)]
    models: Annotated[tuple[str, ...], ListOf(Name(), unique=True)]
    manifest_sha256: Annotated[bytes, Blob(32)]
    evidence: Annotated[bytes, Blob(max_size=MAX_EVIDENCE)]


@dataclass(frozen=True)
class RefusedItem:
    """An item of collateral that was not taken: an error's code, and what it says."""

    name: Annotated[str, ITEM_NAME]
    code: Annotated[str, Name()]
    reason: Annotated[str, Text(MAX_REASON)]


@dataclass(frozen=True)
class CollateralReply(CborMessage, what="the collateral answer", limit=MAX_COLLATERAL_REPLY):
    """The answer of POST /v1/collateral: each item of the bundle stands in one of the lists.

    `ignored` are those of which the coordinator has the same or a newer one.
    """

    added: Annotated[tuple[str, ...], _NAMES]
    ignored: Annotated[tuple[str, ...], _NAMES]
    refused: Annotated[tuple[RefusedItem, ...], ListOf(Nested(RefusedItem), MAX_ITEMS)]


@dataclass(frozen=True)
class RefusedJoin(CborMessage, what="the refused join", limit=MAX_JOIN):
    """GET /v1/refused: a join whose evidence failed, for a program that fetches collateral."""

    role: Annotated[str, Name()]
    evidence: Annotated[bytes, Blob(max_size=MAX_EVIDENCE)]


@dataclass(frozen=True)
class JoinReply(CborMessage, what="the join reply", limit=4 * MAX_DER):
    """The answer of POST /v1/join: the node's certificate and the CAs above it."""

    certificate: Annotated[bytes, _CERTIFICATE]
    mesh_ca: Annotated[bytes, _CERTIFICATE]
    root_ca: Annotated[bytes, _CERTIFICATE]
