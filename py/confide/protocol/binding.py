"""What a hardware report binds: `report_data` is made of a nonce and a list of items."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from confide.encoding.canonical import cbor_encode
from confide.errors import FormatError

COORDINATOR_LABEL = "confide/coordinator/2"
JOIN_LABEL = "confide/join/2"
INVENTORY_LABEL = "confide/inventory/1"

NONCE_SIZE = 32
REPORT_DATA_SIZE = 64
TIME_SIZE = 8
# A TPM quote has room for less: it carries the digest without the padding.
TPM_EXTRA_DATA_SIZE = 32


def report_data(label: str, nonce: bytes, items: Sequence[bytes]) -> bytes:
    """SHA-256(label ‖ 0x00 ‖ nonce ‖ SHA-256(item) ...) ‖ 32 zero bytes: 64 bytes.

    The label names the purpose, so a report for one purpose does not pass for another.

    Args:
        label: ASCII without NUL.
        nonce: 32 bytes.
        items: byte strings of any length; their number and order count.

    Raises:
        FormatError: `bad-nonce` or `bad-label`.
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
    root: bytes, *, manifest: bytes, root_ca: bytes, mesh_ca: bytes, history: bytes, time: int
) -> bytes:
    """The 64 bytes in the coordinator's report.

    Args:
        root: of the tree over the nonces that the report answers (`protocol.nonce_tree`), 32 bytes.
        manifest: the manifest's canonical bytes.
        root_ca: DER.
        mesh_ca: DER.
        history: its CBOR bytes.
        time: the coordinator's, in unix seconds (64 bits).

    Raises:
        FormatError: `bad-nonce` for a root of another size.
    """
    items = [manifest, root_ca, mesh_ca, history, time.to_bytes(TIME_SIZE)]
    return report_data(COORDINATOR_LABEL, root, items)


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

    Without the mesh CA, a man in the middle with CAs of his own could relay a join: the node would
    trust his mesh, and the real mesh would vouch for the node.

    Args:
        nonce: the coordinator's challenge, 32 bytes.
        role: the role that the node claims.
        public_key: SPKI DER of the node's mesh key.
        kem_public_key: the secret service's KEM key, empty for all other roles.
        manifest: the manifest's canonical bytes.
        models: names, in the order in which they are sent.
        mesh_ca: DER of the mesh CA that the node was shown.
        gpus: the node's `protocol.gpu.gpu_binding`, also for a node without GPUs.

    Raises:
        FormatError: `bad-nonce` for a nonce of another size.
    """
    names = cbor_encode(list(models))
    items = [role.encode(), public_key, kem_public_key, manifest, names, mesh_ca, gpus]
    return report_data(JOIN_LABEL, nonce, items)


def inventory_report_data(nonce: bytes) -> bytes:
    """The 64 bytes in the report of a machine that was launched for no manifest: the nonce alone.

    Raises FormatError `bad-nonce` for a nonce of another size than 32 bytes.
    """
    return report_data(INVENTORY_LABEL, nonce, [])
