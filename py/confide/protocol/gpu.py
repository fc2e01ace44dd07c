"""One GPU's evidence as it travels, and how GPUs and the machine they are in are tied together.

A GPU signs a nonce and its own state, and knows nothing of the machine around it. So the binding
goes both ways, and neither half can be exchanged for one from elsewhere:
- the machine's own report binds `gpu_binding`: how many GPUs there are, each with its id and key,
  or why none can be attested;
- each GPU signs `gpu_nonce`, which is made from what the machine's report binds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from confide.encoding.canonical import Cbor, cbor_decode, cbor_encode
from confide.encoding.fields import Fields
from confide.errors import FormatError
from confide.protocol.binding import REPORT_DATA_SIZE
from confide.vendors.nvidia.spdm import MAX_REPORT

ARCHITECTURES = ("hopper", "blackwell")
MAX_GPUS = 16
# Leaf (made by the GPU at boot), GPU, provisioner, architecture, root.
CHAIN_LENGTH = 5
MAX_CERTIFICATE = 4096
MAX_GPU_EVIDENCE = MAX_REPORT + CHAIN_LENGTH * MAX_CERTIFICATE + 512
# Why a machine that is to have GPUs has none to show; its evidence carries one of these codes.
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
class GpuDevice:
    """What is known of a GPU before it is asked for a report.

    `architecture` is one of `ARCHITECTURES`, `uuid` the driver's name for it ("GPU-..."), the
    certificates are DER, leaf first, root last. The UUID is the driver's word: the GPU signs none.
    """

    architecture: str
    uuid: str
    certificates: tuple[bytes, ...]

    def encode(self) -> bytes:
        """CBOR map {architecture, uuid, certificates}."""
        return cbor_encode(_device_fields(self))

    @classmethod
    def parse(cls, data: bytes) -> GpuDevice:
        """Raises FormatError for anything but exactly this map."""
        fields = Fields(cbor_decode(data, what="GPU", limit=MAX_GPU_EVIDENCE), "GPU")
        device = _read_device(fields)
        fields.done()
        return device


@dataclass(frozen=True)
class GpuEvidence:
    """CBOR map {architecture, uuid, certificates, report}: a GPU and its signed report.

    `report` is exactly one SPDM request and response (see `formats.spdm`).
    """

    device: GpuDevice
    report: bytes

    def encode(self) -> bytes:
        """The evidence as deterministic CBOR: one item of `Evidence.gpus`."""
        return cbor_encode({**_device_fields(self.device), "report": self.report})

    @classmethod
    def parse(cls, data: bytes) -> GpuEvidence:
        """Raises FormatError for anything but exactly this map."""
        value = cbor_decode(data, what="GPU evidence", limit=MAX_GPU_EVIDENCE)
        fields = Fields(value, "GPU evidence")
        device = _read_device(fields)
        report = fields.blob("report", max_length=MAX_REPORT)
        fields.done()
        return cls(device, report)


def gpu_nonce(report_data: bytes) -> bytes:
    """The nonce for every GPU of a machine: SHA-256("confide/gpu/1" ‖ 0x00 ‖ report_data).

    `report_data` is the 64 bytes that the machine's own report binds, so it covers the verifier's
    nonce and, through `gpu_binding`, all the GPUs. Raises FormatError for another size.
    """
    if len(report_data) != REPORT_DATA_SIZE:
        raise _bad(f"{REPORT_DATA_SIZE} bytes of report data", f"{len(report_data)} bytes")
    return hashlib.sha256(_NONCE_LABEL + report_data).digest()


def gpu_binding(devices: Sequence[GpuDevice], refusal: str = "") -> bytes:
    """All GPUs of a machine, in order, as an item that its own report binds.

    Deterministic CBOR {devices, refusal}: a list of {architecture, uuid, certificates}, empty for
    none, so that "no GPU" is said too and not left out; and why none could be attested, one of
    `REFUSALS`, "" if nothing speaks against it.
    """
    items: list[Cbor] = [_device_fields(device) for device in devices]
    return cbor_encode({"devices": items, "refusal": refusal})


def _read_device(fields: Fields) -> GpuDevice:
    architecture = fields.text("architecture", one_of=ARCHITECTURES)
    uuid = fields.text("uuid", max_length=80)
    if not (uuid and uuid.isascii() and uuid.isprintable()):
        raise _bad("a printable UUID", ascii(uuid))
    certificates = fields.list("certificates", max_items=CHAIN_LENGTH)
    chain = tuple(c for c in certificates if isinstance(c, bytes) and len(c) <= MAX_CERTIFICATE)
    if len(chain) != len(certificates) or len(chain) != CHAIN_LENGTH:
        expected = f"{CHAIN_LENGTH} certificates of at most {MAX_CERTIFICATE} bytes"
        raise _bad(expected, f"{len(certificates)} items")
    return GpuDevice(architecture, uuid, chain)


def _device_fields(device: GpuDevice) -> dict[str, Cbor]:
    return {
        "architecture": device.architecture,
        "uuid": device.uuid,
        "certificates": list(device.certificates),
    }


def _bad(expected: str, seen: str) -> FormatError:
    return FormatError(
        "bad-gpu-evidence", "the GPU evidence is not of the form", expected=expected, seen=seen
    )
