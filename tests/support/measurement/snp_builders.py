"""A small SEV-SNP launch."""

from __future__ import annotations

import hashlib

from measure.snp import firmware, vmsa
from measure.snp.kernel import KernelHashes
from measure.snp.launch import Launch
from tests.support.measurement import ovmf_builders as build

MILAN = 0xA00F11
KERNEL = KernelHashes.of(b"kernel", b"initrd", b"quiet")
PAGE = 4096


def launch(
    image: bytes | None = None,
    *,
    kernel: KernelHashes | None = KERNEL,
    vmm: vmsa.Vmm = vmsa.QEMU,
    guest_features: int = 1,
) -> Launch:
    """The launch of `image`, or of a small firmware."""
    signature = MILAN if vmm.rdx is None else None
    loaded = firmware.from_image(build.image() if image is None else image, "fw")
    return Launch(loaded, kernel, vmm, signature, guest_features)


def sha384(data: bytes) -> bytes:
    """48 bytes."""
    return hashlib.sha384(data).digest()
