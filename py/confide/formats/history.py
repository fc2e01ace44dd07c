"""The coordinator's history: every manifest it ever had, hash-linked and signed by its root CA.

On the wire: a CBOR list of maps {sequence, manifest_sha256, previous, mesh_ca_sha256, signature}, oldest
first. `previous` is SHA-256 of the previous map's own CBOR bytes, 32 zero bytes for the first.
`signature` is ECDSA P-256 with SHA-256 (DER) by the root CA's key over `signed_bytes`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from confide.formats.canonical import Cbor, cbor_decode, cbor_encode
from confide.formats.fields import Fields

SIGNATURE_LABEL = b"confide/history/1\0"
NO_PREVIOUS = bytes(32)
MAX_ENTRIES = 4096


@dataclass(frozen=True)
class HistoryEntry:
    """One manifest's place in the history. Digests are 32 bytes, `sequence` counts from 0."""

    sequence: int
    manifest_sha256: bytes
    previous: bytes
    mesh_ca_sha256: bytes
    signature: bytes = b""

    def signed_bytes(self) -> bytes:
        """What the root CA signs: the label, then the map without its signature."""
        return SIGNATURE_LABEL + cbor_encode(self._unsigned())

    def signed(self, signature: bytes) -> HistoryEntry:
        """The same entry with its signature."""
        return replace(self, signature=signature)

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the entry's CBOR bytes, signature included: what the next entry names."""
        return hashlib.sha256(cbor_encode(self.to_cbor())).digest()

    def to_cbor(self) -> dict[str, Cbor]:
        """The entry as it stands in the list."""
        return self._unsigned() | {"signature": self.signature}

    def _unsigned(self) -> dict[str, Cbor]:
        return {
            "sequence": self.sequence,
            "manifest_sha256": self.manifest_sha256,
            "previous": self.previous,
            "mesh_ca_sha256": self.mesh_ca_sha256,
        }


def encode_history(entries: Sequence[HistoryEntry]) -> bytes:
    """The history as deterministic CBOR; `[]` before the first manifest."""
    return cbor_encode([entry.to_cbor() for entry in entries])


def parse_history(data: bytes) -> tuple[HistoryEntry, ...]:
    """Read a history. Raises FormatError; links and signatures are for verify/service.py."""
    # Fields reads maps, so the list is put into one.
    fields = Fields({"entries": cbor_decode(data, what="history")}, "the history")
    return tuple(_entry(item) for item in fields.list("entries", max_items=MAX_ENTRIES))


def _entry(item: object) -> HistoryEntry:
    fields = Fields(item, "a history entry")
    entry = HistoryEntry(
        sequence=fields.integer("sequence"),
        manifest_sha256=fields.blob("manifest_sha256", length=32),
        previous=fields.blob("previous", length=32),
        mesh_ca_sha256=fields.blob("mesh_ca_sha256", length=32),
        signature=fields.blob("signature", max_length=128),
    )
    fields.done()
    return entry
