"""One GPU's evidence as it travels, and how GPUs and the machine they are in are tied together.

A GPU signs a nonce and its own state, and knows nothing of the machine around it. So the binding
goes both ways, and neither half can be replaced by one of another machine:
- the machine's own report binds `gpu_binding`: how many GPUs there are, each with its id and key,
  or why none can be attested;
- each GPU signs `gpu_nonce`, which is made from what the machine's report binds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from confide.encoding.canonical import cbor_encode
from confide.encoding.messages import CborMessage, to_map
from confide.errors import FormatError
from confide.protocol.binding import REPORT_DATA_SIZE
from confide.vendors.nvidia.spdm import MAX_REPORT
from measure.kinds import Anything, Blob, Converted, ListOf, Text, Word

ARCHITECTURES = ("hopper", "blackwell")
MAX_GPUS = 16
# Leaf (made by the GPU at boot), GPU, provisioner, architecture, root.
CHAIN_LENGTH = 5
MAX_CERTIFICATE = 4096
MAX_GPU_EVIDENCE = MAX_REPORT + CHAIN_LENGTH * MAX_CERTIFICATE + 512
# Why a machine that should have GPUs cannot attest them; its evidence carries one of these codes.
REFUSALS = (
    "no-gpu",
    "gpu-service",
    "gpu-driver",
    "gpu-driver-mismatch",
    "gpu-firmware-missing",
    "gpu-cc-off",
    "gpu-devtools-on",
    "gpu-not-production",
    "gpu-protected-pcie",
    "gpu-unsupported",
    "gpu-not-held",
    "gpu-bad-answer",
)

_NONCE_LABEL = b"confide/gpu/1\0"


@dataclass(frozen=True)
class _Chain(ListOf):
    """`CHAIN_LENGTH` certificates in DER."""

    def decode(self, value: object, what: str) -> tuple[bytes, ...]:
        """Raises FormatError `bad-gpu-evidence` for a chain of another form."""
        items = ListOf(Anything(), CHAIN_LENGTH).decode(value, what)
        chain = tuple(c for c in items if isinstance(c, bytes) and len(c) <= MAX_CERTIFICATE)
        if len(chain) != CHAIN_LENGTH or len(items) != CHAIN_LENGTH:
            expected = f"{CHAIN_LENGTH} certificates of at most {MAX_CERTIFICATE} bytes"
            raise _malformed(expected, f"{len(items)} items")
        return chain


def _read_uuid(text: str) -> str:
    if not (text and text.isascii() and text.isprintable()):
        raise _malformed("a printable UUID", ascii(text))
    return text


@dataclass(frozen=True)
class _Gpu(CborMessage):
    """The fields that a device and its evidence share.

    `uuid` is the driver's name for it ("GPU-..."), the certificates are DER, leaf first, root last.
    Nothing but the driver says the UUID: the GPU does not sign it.
    """

    architecture: Annotated[str, Word(ARCHITECTURES)]
    uuid: Annotated[str, Converted(Text(max_length=80), read=_read_uuid, write=str)]
    certificates: Annotated[tuple[bytes, ...], _Chain(Blob(max_size=MAX_CERTIFICATE))]


@dataclass(frozen=True)
class GpuDevice(_Gpu, what="the GPU", limit=MAX_GPU_EVIDENCE):
    """What is known of a GPU before it is asked for a report."""


@dataclass(frozen=True)
class GpuEvidence(_Gpu, what="the GPU evidence", limit=MAX_GPU_EVIDENCE):
    """A GPU and its signed report: one item of `Evidence.gpus`.

    `report` is exactly one SPDM request and response (see vendors/nvidia/spdm.py).
    """

    report: Annotated[bytes, Blob(max_size=MAX_REPORT)]

    @classmethod
    def of(cls, device: GpuDevice, report: bytes) -> GpuEvidence:
        """The evidence of this device."""
        return cls(device.architecture, device.uuid, device.certificates, report)

    @property
    def device(self) -> GpuDevice:
        """The GPU without its report."""
        return GpuDevice(self.architecture, self.uuid, self.certificates)


def gpu_nonce(report_data: bytes) -> bytes:
    """The nonce for every GPU of a machine: SHA-256("confide/gpu/1" ‖ 0x00 ‖ report_data).

    `report_data` is the 64 bytes that the machine's own report binds, so it covers the verifier's
    nonce and, through `gpu_binding`, all the GPUs. Raises FormatError for another size.
    """
    if len(report_data) != REPORT_DATA_SIZE:
        raise _malformed(f"{REPORT_DATA_SIZE} bytes of report data", f"{len(report_data)} bytes")
    return hashlib.sha256(_NONCE_LABEL + report_data).digest()


def gpu_binding(devices: Sequence[GpuDevice], refusal: str = "") -> bytes:
    """All GPUs of a machine, in order, as an item that its own report binds.

    Deterministic CBOR {devices, refusal}: a list of {architecture, uuid, certificates}, which is
    empty for a machine without GPUs; and why no GPU could be attested, one of `REFUSALS`, "" if
    there was no obstacle.
    """
    return cbor_encode({"devices": [to_map(device) for device in devices], "refusal": refusal})


def _malformed(expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-gpu-evidence", "the GPU evidence is malformed", expected=expected, seen=seen
    )
