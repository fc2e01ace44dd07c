"""The roots of trust, each pinned by its public key: nothing else about a certificate is believed.

A name proves nothing, because anyone can make a certificate with any subject. So a root is the
SHA-256 of its SubjectPublicKeyInfo. The certificates themselves come with evidence or collateral.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Root:
    """A vendor's root: `product` is what it certifies, `spki_sha256` is 32 bytes."""

    vendor: str
    product: str
    spki_sha256: bytes


# AMD's root keys (ARK), one for each family of processors. Each signs an ASK, which certifies the
# keys of chips (VCEK), an ASVK, which certifies those of clouds (VLEK), and the revocation list.
AMD_MILAN = Root(
    "AMD",
    "Milan",
    bytes.fromhex("9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9"),
)
AMD_GENOA = Root(
    "AMD",
    "Genoa",
    bytes.fromhex("429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831"),
)
AMD_TURIN = Root(
    "AMD",
    "Turin",
    bytes.fromhex("4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08"),
)

# NVIDIA's: one certifies the keys of GPUs and switches (subject "NVIDIA Device Identity CA"), the
# other the signers of reference values for drivers and VBIOSes ("NVIDIA CoRIM signing Root CA").
NVIDIA_DEVICE = Root(
    "NVIDIA",
    "devices",
    bytes.fromhex("a90c4eb5acfd3e3d03a25db6a26b84f720ad0503196c627c21ddd48dd85b06a4"),
)
NVIDIA_RIM = Root(
    "NVIDIA",
    "reference values",
    bytes.fromhex("dec1dc316477aa851eebdf51327ae9f864bc8d89254657ed1e7eb9168af1e1a3"),
)

# Certifies the keys of Intel platforms (PCK) and of the signer of TCB info, for SGX and TDX alike
# (subject "Intel SGX Root CA", valid until 2049).
INTEL_SGX = Root(
    "Intel",
    "SGX and TDX",
    bytes.fromhex("a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e"),
)
