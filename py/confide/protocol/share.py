"""The share: 32 bytes that a client seals to one worker, for as long as that worker has one leaf.

Request and response keys come from the worker's key *and* the share (sealed.py). Secret services
never see the share, so they open nothing.
"""

from __future__ import annotations

from confide.errors import VerificationError
from confide.protocol.kem import ENC_SIZE, TAG_SIZE, KemPrivateKey, seal_to

SHARE_LABEL = b"confide/share/2"
SHARE_SIZE = 32
SEALED_SHARE_SIZE = ENC_SIZE + SHARE_SIZE + TAG_SIZE


def seal_share(share: bytes, kem_public_key: bytes, *, manifest_sha256: bytes) -> bytes:
    """A share of 32 bytes, sealed to a worker's KEM key of 1,216 bytes: 1,168 bytes.

    The caller has checked that the worker's mesh certificate names the KEM key. Raises FormatError
    `bad-key`.
    """
    return seal_to(kem_public_key, share, label=SHARE_LABEL, manifest_sha256=manifest_sha256)


def open_share(sealed: bytes, kem: KemPrivateKey, *, manifest_sha256: bytes) -> bytes:
    """The share, 32 bytes. Raises VerificationError `bad-key-seal`."""
    share = kem.open(sealed, label=SHARE_LABEL, manifest_sha256=manifest_sha256)
    if len(share) != SHARE_SIZE:
        raise VerificationError(
            "bad-key-seal",
            "the sealed share has the wrong size",
            expected=f"{SHARE_SIZE} bytes",
            seen=f"{len(share)} bytes",
        )
    return share
