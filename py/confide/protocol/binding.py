"""What a hardware report vouches for: `report_data` binds a nonce and a list of items to it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from confide.encoding.canonical import cbor_encode
from confide.errors import FormatError

COORDINATOR_LABEL = "confide/coordinator/1"
JOIN_LABEL = "confide/join/2"

NONCE_SIZE = 32
REPORT_DATA_SIZE = 64
# A TPM quote has room for less: it carries the digest without the padding.
TPM_EXTRA_DATA_SIZE = 32


def report_data(label: str, nonce: bytes, items: Sequence[bytes]) -> bytes:
    """SHA-256(label ‖ 0x00 ‖ nonce ‖ SHA-256(item) ...) ‖ 32 zero bytes: 64 bytes.

    The label says what is bound, so a report made for one purpose is useless for another. `nonce`
    is 32 bytes. Raises FormatError for another nonce size or a label with two readings.
    """
    if len(nonce) != NONCE_SIZE:
        raise FormatError(
            "bad-nonce",
            "the nonce has the wrong size",
            expected=f"{NONCE_SIZE} bytes",
            seen=f"{len(nonce)} bytes",
        )
    if not label or not label.isascii() or "\0" in label:
        raise FormatError("bad-label", "a binding label must be ASCII text without NUL")
    digest = hashlib.sha256(label.encode() + b"\0" + nonce)
    for item in items:
        digest.update(hashlib.sha256(item).digest())
    return digest.digest().ljust(REPORT_DATA_SIZE, b"\0")


def coordinator_report_data(
    nonce: bytes, *, manifest: bytes, root_ca: bytes, mesh_ca: bytes, history: bytes
) -> bytes:
    """The 64 bytes in the coordinator's report. CAs are DER, the history is its CBOR bytes."""
    return report_data(COORDINATOR_LABEL, nonce, [manifest, root_ca, mesh_ca, history])


def join_report_data(
    nonce: bytes,
    *,
    role: str,
    public_key: bytes,
    kem_public_key: bytes,
    manifest: bytes,
    models: Sequence[str],
    mesh_ca: bytes,
    gpus: bytes,
) -> bytes:
    """The 64 bytes in a joining node's report.

    `public_key` is the SPKI DER of the node's mesh key; `kem_public_key` is empty for a node that
    has none; `models` are bound in the order in which they are sent. `mesh_ca` is the DER of the
    mesh CA that the node was shown: without it, a man in the middle with CAs of his own could relay
    a join, and the node would trust his mesh while the real one vouches for the node. `gpus` is the
    node's `formats.gpu.gpu_binding`, of none if it has none.
    """
    names = cbor_encode(list(models))
    items = [role.encode(), public_key, kem_public_key, manifest, names, mesh_ca, gpus]
    return report_data(JOIN_LABEL, nonce, items)
