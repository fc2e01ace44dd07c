"""What binds a machine to one manifest, from its launch on.

The host launches a machine for a manifest and cannot change that later: SEV-SNP and TDX have a
field of the launch that every report repeats. A vTPM machine extends a register before it has a
network. The values follow from the manifest's bytes; no manifest names them.

Sources: SEV-SNP firmware ABI, 8.17 (HOST_DATA, 32 bytes); Intel TDX module ABI, TD_PARAMS
(MRCONFIGID, 48 bytes); UAPI group, Linux TPM PCR registry (PCR 15, machine identity).
"""

from __future__ import annotations

from hashlib import sha256

BINDING_SIZE = 32
"""A binding is the SHA-256 of the manifest's bytes. HOST_DATA is the binding itself."""

UNBOUND = bytes(BINDING_SIZE)
"""The binding of a machine that was launched for no manifest: it attests, and does nothing else."""

BINDING_PCR = 15

_MRCONFIGID_SIZE = 48


def mrconfigid(binding: bytes) -> bytes:
    """MRCONFIGID of a TDX machine: the 32 bytes of the binding, then 16 zero bytes."""
    return binding.ljust(_MRCONFIGID_SIZE, b"\0")


def binding_pcr(binding: bytes) -> bytes:
    """PCR 15 (SHA-256 bank) of a vTPM machine: one extension of a register of zeros, 32 bytes."""
    return sha256(bytes(32) + binding).digest()
