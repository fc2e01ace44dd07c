"""What a running coordinator says of itself, unchecked, and what was predicted of its image."""

from __future__ import annotations

import json
import os
from pathlib import Path

import requests

from confide.protocol.coordinator import Attestation, Nonce
from confide.protocol.evidence import Evidence, VtpmReport
from confide.protocol.launch import binding_pcr
from measure import explain, report
from measure.explain import evidence as measured_evidence


def evidence(url: str) -> Evidence:
    """The evidence for a fresh nonce of the coordinator at `url`."""
    reply = requests.post(f"{url}/v1/attest", data=Nonce(os.urandom(32)).encode(), timeout=60)
    return Evidence.parse(Attestation.parse(reply.content).evidence)


def quoted_pcrs(url: str) -> dict[int, bytes]:
    """The register values that the coordinator's TPM signs."""
    return dict(VtpmReport.parse(evidence(url).report).pcrs)


def explained(sent: Evidence, image: Path) -> explain.Explanation:
    """What `measure explain` says of evidence and the image in a folder."""
    measured = report.parse((image / "measurements.json").read_bytes(), image.name)
    seen = measured_evidence.parse(sent.encode(), "evidence")
    return explain.explain(seen, measured, image.name, explain.Clues())


def launched_for(manifest_sha256: bytes) -> str:
    """What `explained` notes of a machine that was launched for this manifest."""
    register = binding_pcr(manifest_sha256).hex()
    return f"PCR 15: launched for the manifest whose hash, extended once, is {register}"


def predicted_pcrs(image: Path) -> dict[str, dict[str, str]]:
    """The register values in hex of the image in a folder: {machine: {register: value}}."""
    content = json.loads((image / "measurements.json").read_text())
    return {platform["shape"]: platform["pcrs"] for platform in content["platforms"]["vtpm"]}
