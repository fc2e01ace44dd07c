"""What binds a machine to one manifest, from its launch on, and what its evidence says of that.

The launch carries SHA-256 of the manifest's bytes as they are in the file: nothing is parsed here,
and another spelling of the same manifest is another manifest. It is in no launch digest and in no
other register.

Sources: SEV-SNP firmware ABI (AMD 56860), 8.17, HOST_DATA; Intel TDX module ABI, TD_PARAMS,
MRCONFIGID; QEMU's objects sev-snp-guest and tdx-guest, whose properties are in base64.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from measure.errors import InputError

MAX_MANIFEST = 1 << 20
PCR = 15

_SIZE = 32


@dataclass(frozen=True)
class LaunchField:
    """The field of a launch that a report repeats.

    Attributes:
        name: as reports call it.
        option: the property of QEMU's object.
        size: bytes; what a digest leaves over is zeros.
    """

    name: str
    option: str
    size: int

    def value(self, manifest: bytes, file: str) -> bytes:
        """What the launch has to carry for a manifest.

        Raises:
            InputError: the file is empty, which no manifest is.
        """
        if not manifest:
            raise InputError("the manifest is empty", file=file)
        return hashlib.sha256(manifest).digest().ljust(self.size, b"\0")

    def argument(self, value: bytes) -> str:
        """QEMU's property, in base64."""
        return f"{self.option}={base64.b64encode(value).decode('ascii')}"

    def note(self, value: bytes) -> str:
        """Which manifest a machine was launched for, in words."""
        if not any(value):
            return f"{self.name} is zero: launched for no manifest"
        if any(value[_SIZE:]):
            return f"{self.name} is no manifest's: {value.hex()} does not end in zeros"
        return f"{self.name}: launched for the manifest with SHA-256 {value[:_SIZE].hex()}"


HOST_DATA = LaunchField("HOST_DATA", "host-data", _SIZE)
MRCONFIGID = LaunchField("MRCONFIGID", "mrconfigid", 48)


def register_of(manifest_sha256: bytes) -> bytes:
    """PCR 15 (SHA-256 bank, 32 bytes) of a vTPM machine that was launched for a manifest."""
    return hashlib.sha256(bytes(_SIZE) + manifest_sha256).digest()


def register_note(value: bytes | None) -> str:
    """Which manifest a vTPM machine was launched for, in words; None if PCR 15 is not quoted."""
    if value is None:
        return f"PCR {PCR} is not in the quote, so nothing says what the machine was launched for"
    if not any(value):
        return f"PCR {PCR} is zero: the machine did not say what it was launched for"
    if value == register_of(bytes(_SIZE)):
        return f"PCR {PCR}: launched for no manifest"
    text = f"launched for the manifest whose hash, extended once, is {value.hex()}"
    return f"PCR {PCR}: {text}"
