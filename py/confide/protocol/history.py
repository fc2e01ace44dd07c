"""The coordinator's history: all its manifests, hash-linked and signed by its root CA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from confide.encoding.canonical import cbor_decode, cbor_encode
from confide.encoding.messages import from_map, to_map
from confide.errors import FormatError, VerificationError
from measure.kinds import Blob, Integer

SIGNATURE_LABEL = b"confide/history/1\0"
HASH_SIZE = 32
MAX_ENTRIES = 1024
NO_PREVIOUS = bytes(HASH_SIZE)


@dataclass(frozen=True)
class HistoryEntry:
    """One transition: CBOR {sequence, manifest_sha256, previous, mesh_ca_sha256, signature}.

    `sequence` counts from 0; `previous` is SHA-256 of the previous entry's CBOR, 32 zero bytes for
    the first; `mesh_ca_sha256` is over the mesh CA's DER; `signature` is the root CA's ECDSA P-256
    SHA-256 (DER) over "confide/history/1" ‖ 0x00 ‖ CBOR of the other four fields.
    """

    sequence: Annotated[int, Integer()]
    manifest_sha256: Annotated[bytes, Blob(HASH_SIZE)]
    previous: Annotated[bytes, Blob(HASH_SIZE)]
    mesh_ca_sha256: Annotated[bytes, Blob(HASH_SIZE)]
    signature: Annotated[bytes, Blob(max_size=128)]

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the entry's CBOR: what the next entry links to."""
        return sha256(cbor_encode(to_map(self))).digest()

    def signed_bytes(self) -> bytes:
        """What the root CA signs."""
        signed: dict[str, Any] = to_map(self)
        del signed["signature"]
        return SIGNATURE_LABEL + cbor_encode(signed)


def encode_history(entries: Sequence[HistoryEntry]) -> bytes:
    """The history as CBOR: a list of entries, oldest first."""
    return cbor_encode([to_map(entry) for entry in entries])


def append_entry(
    entries: Sequence[HistoryEntry],
    *,
    manifest_sha256: bytes,
    mesh_ca: bytes,
    root_key: ec.EllipticCurvePrivateKey,
) -> tuple[HistoryEntry, ...]:
    """Coordinator side: `entries` plus a signed entry for a new manifest and mesh CA (DER)."""
    previous = entries[-1].sha256 if entries else NO_PREVIOUS
    mesh_ca_sha256 = sha256(mesh_ca).digest()
    unsigned = HistoryEntry(len(entries), manifest_sha256, previous, mesh_ca_sha256, b"")
    signature = root_key.sign(unsigned.signed_bytes(), ec.ECDSA(hashes.SHA256()))
    entry = HistoryEntry(len(entries), manifest_sha256, previous, mesh_ca_sha256, signature)
    return (*entries, entry)


def parse_history(data: bytes) -> tuple[HistoryEntry, ...]:
    """Read a history and check its sequence numbers and links. Raises FormatError."""
    items = cbor_decode(data, what="the history")
    if not isinstance(items, list) or len(items) > MAX_ENTRIES:
        raise FormatError(
            "bad-history", "the history is not a list", expected=f"at most {MAX_ENTRIES} entries"
        )
    entries: list[HistoryEntry] = []
    for item in items:
        entry = from_map(HistoryEntry, item, "the history's entry")
        previous = entries[-1].sha256 if entries else NO_PREVIOUS
        if entry.sequence != len(entries) or entry.previous != previous:
            raise FormatError(
                "bad-history",
                "the history's chain is broken",
                expected=f"entry {len(entries)} after {previous.hex()}",
                seen=f"entry {entry.sequence} after {entry.previous.hex()}",
            )
        entries.append(entry)
    return tuple(entries)


def verify_history(
    entries: Sequence[HistoryEntry],
    *,
    root_key: ec.EllipticCurvePublicKey,
    manifest_sha256: bytes,
    mesh_ca: bytes,
) -> None:
    """Check every signature, and that the last entry is for this manifest and mesh CA (DER).

    Raises VerificationError.
    """
    if not entries:
        raise VerificationError("bad-history", "the history is empty")
    for entry in entries:
        try:
            root_key.verify(entry.signature, entry.signed_bytes(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise VerificationError(
                "bad-history", f"the root CA did not sign history entry {entry.sequence}"
            ) from error
    last = entries[-1]
    for name, expected, seen in (
        ("manifest", manifest_sha256, last.manifest_sha256),
        ("mesh CA", sha256(mesh_ca).digest(), last.mesh_ca_sha256),
    ):
        if expected != seen:
            raise VerificationError(
                "bad-history",
                f"the history ends with another {name}",
                expected=expected.hex(),
                seen=seen.hex(),
            )
