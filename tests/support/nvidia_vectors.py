"""Reads the recorded evidence of real NVIDIA devices, in the forms in which others published it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confide.protocol.gpu import GpuDevice, GpuEvidence
from confide.vendors.nvidia.spdm import Report

SDK = "nvidia-attestation-sdk"
SAMPLES = f"{SDK}/sample_attestation_data"
# Signers of stored RIMs are certified from September 2023 or earlier until June 2025 or later.
PINNED = int(datetime(2025, 6, 1, tzinfo=UTC).timestamp())


@dataclass(frozen=True)
class Recorded:
    """One device's report and certificates (DER, leaf first) as they were recorded."""

    name: str
    report: bytes
    certificates: tuple[bytes, ...]

    @property
    def nonce(self) -> bytes:
        return Report.parse(self.report).nonce

    def evidence(self, architecture: str = "hopper", uuid: str = "GPU-recorded") -> GpuEvidence:
        """In this project's form; nobody recorded a UUID."""
        return GpuEvidence.of(GpuDevice(architecture, uuid, self.certificates), self.report)


# Report file, chain file. The chain of the sample with an invalid signature was not published.
FILES = {
    "hopper": (f"{SAMPLES}/hopperAttestationReport.txt", f"{SAMPLES}/hopperCertChain.txt"),
    "blackwell": (f"{SAMPLES}/blackwellAttestationReport.txt", f"{SAMPLES}/blackwellCertChain.txt"),
    "hopper-expired": (
        f"{SAMPLES}/hopperAttestationReportExpired.txt",
        f"{SAMPLES}/hopperCertChainExpired.txt",
    ),
    "hopper-580": (
        f"{SDK}/testdata/hopperAttestationReport.txt",
        f"{SDK}/testdata/hopperCertChain.txt",
    ),
    "hopper-550": ("nvtrust/hopperAttestationReport.txt", "nvtrust/hopperCertChain.txt"),
    "trustee": (
        "trustee/nvidia/hopperAttestationReport.txt",
        "trustee/nvidia/hopper_cert_chain_case1.txt",
    ),
}
SWITCHES = {
    "switch": (f"{SAMPLES}/switchAttestationReport.txt", f"{SAMPLES}/switchCertChain.txt"),
    "switch-testdata": (
        f"{SDK}/testdata/switchAttestationReport.txt",
        f"{SDK}/testdata/switchCertChain.txt",
    ),
}
INVALID_SIGNATURE = {
    "hopper": (
        f"{SAMPLES}/hopperAttestationReportInvalidSignature.txt",
        f"{SAMPLES}/hopperCertChain.txt",
    ),
    "switch": (
        f"{SAMPLES}/switchAttestationReportInvalidSignature.txt",
        f"{SAMPLES}/switchCertChain.txt",
    ),
}
SERIALIZED = {
    "nvtrust/gpu_evidence.json": 8,
    f"{SDK}/evidence/hopper_evidence.json": 1,
    f"{SDK}/evidence/hopper_evidence_cert_hold.json": 1,
}
SERIALIZED_SWITCHES = {
    "nvtrust/switch_evidence.json": 4,
    f"{SDK}/evidence/multi_switch_ls10.json": 4,
    f"{SDK}/evidence/switch_evidence_ls10.json": 1,
}


def recorded(vectors: Path, files: tuple[str, str]) -> Recorded:
    """A report in hex and its chain in PEM, or in base64 of PEM."""
    report, chain = files
    data = bytes.fromhex((vectors / report).read_text().strip())
    return Recorded(report, data, pem_chain((vectors / chain).read_bytes()))


def serialized(vectors: Path, name: str) -> list[Recorded]:
    """A JSON list of {evidence, certificate}, both in base64."""
    return [
        Recorded(
            f"{name}[{number}]",
            base64.b64decode(item["evidence"]),
            pem_chain(item["certificate"].encode()),
        )
        for number, item in enumerate(json.loads((vectors / name).read_text()))
    ]


def pem_chain(data: bytes) -> tuple[bytes, ...]:
    pem = data if data.startswith(b"-----") else base64.b64decode(data)
    return tuple(c.public_bytes(Encoding.DER) for c in x509.load_pem_x509_certificates(pem))
