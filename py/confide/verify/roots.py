"""The roots of trust, each pinned by its public key: nothing else about a certificate is believed.

A name proves nothing (anybody can make a certificate with any subject), so a root is the SHA-256 of
its SubjectPublicKeyInfo. The certificates themselves come with the evidence, from whoever has them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Root:
    """A vendor's root: `product` is what it vouches for, `spki_sha256` is 32 bytes."""

    vendor: str
    product: str
    spki_sha256: bytes


# Certifies the keys of the vTPMs of one cloud (subject "EK/AK CA Root", valid until 2122).
GOOGLE_TPM_ROOT = Root(
    "Google",
    "vTPM",
    bytes.fromhex("56a613f57126a385dd6949294e93b0b566f96ab0573be0c2368e6f5ca779831f"),
)
