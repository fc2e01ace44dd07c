"""Real evidence and reference values, spoiled: no change may go unnoticed.

A verdict on real evidence never passes as a whole here (no revocation answers were recorded). So a
change counts as noticed if it makes a check fail that did not fail before.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from confide.formats.fields import Fields
from confide.formats.gpu import GpuDevice, GpuEvidence
from confide.formats.gpu_policy import GpuPolicy
from confide.verify.nvidia.device import check_device, read_device
from confide.verify.nvidia.rim import verify_rim

from tests.support.mutations_of_bytes import single_bytes, structural
from tests.support.nvidia_vectors import (
    FILES,
    PINNED,
    SDK,
    SERIALIZED,
    Recorded,
    recorded,
    serialized,
)

SINGLE = 2000
STRUCTURAL = 500
ANYTHING = GpuPolicy.read(
    Fields(
        {
            "architectures": {
                name: {"driver": {"minimum": "0.0"}, "vbios": {"minimum": "0.0"}}
                for name in ("hopper", "blackwell")
            },
            "minimum_count": 1,
            "maximum_count": 1,
            "modes": [],
            "insecure_ignored_measurements": [],
            "insecure_revoked_grace_hours": 0,
            "opt_outs": [],
        },
        "GPU policy",
    )
)
EVIDENCE = [*FILES, *SERIALIZED]
RIMS = [
    f"{SDK}/testdata/NV_GPU_DRIVER_GH100_550.144.03.xml",
    "nvtrust/1010_0200_882_96005E0001_PROD.swidtag",
    "nvtrust/g520_0200_885_9600740001_PROD.swidtag",
]


def load(vectors: Path, name: str) -> Recorded:
    return recorded(vectors, FILES[name]) if name in FILES else serialized(vectors, name)[0]


def failing(evidence: bytes, nonce: bytes) -> set[str]:
    """The checks of one GPU's evidence that fail; only that it cannot be read, if so."""
    read, device = read_device("GPU", evidence)
    if device is None:
        return {read.name}
    checks = check_device(device, nonce=nonce, policy=ANYTHING, now=PINNED)
    return {check.name for check in checks if not check.passed}


@pytest.mark.parametrize("name", EVIDENCE)
def test_spoiled_evidence(vectors: Path, name: str) -> None:
    """Only the UUID may change unnoticed: no GPU signs it, but the machine's report binds it."""
    device = load(vectors, name)
    architecture = "blackwell" if name == "blackwell" else "hopper"
    evidence = device.evidence(architecture)
    encoded, nonce = evidence.encode(), device.nonce
    before = failing(encoded, nonce)
    others = [load(vectors, n).evidence("hopper").encode() for n in ("hopper-550", "hopper-580")]
    changes = [(str(at), c) for at, c in single_bytes(encoded, SINGLE, seed=1)]
    changes += structural(encoded, others, STRUCTURAL, seed=2)
    for what, changed in changes:
        if failing(changed, nonce) <= before:
            parsed = GpuEvidence.parse(changed)
            renamed = GpuDevice(architecture, parsed.device.uuid, device.certificates)
            assert parsed == GpuEvidence(renamed, device.report), f"accepted: {what}"
            assert parsed.device.uuid != evidence.device.uuid


@pytest.mark.parametrize("name", RIMS)
def test_spoiled_reference_values(vectors: Path, name: str) -> None:
    """Only white space may change unnoticed, in a tag or between the letters of base64.

    The canonical form that is signed has no such white space, and the values stay what they were.
    """
    xml = (vectors / name).read_bytes()
    others = [(vectors / other).read_bytes() for other in RIMS if other != name]
    _, genuine = verify_rim("RIM", xml, now=PINNED)
    changes = [(str(at), c) for at, c in single_bytes(xml, SINGLE, seed=3)]
    changes += structural(xml, others, STRUCTURAL, seed=4)
    for what, changed in changes:
        checks, signed = verify_rim("RIM", changed, now=PINNED)
        if all(check.passed for check in checks):
            assert b"".join(changed.split()) == b"".join(xml.split()), f"accepted: {what}"
            assert signed == genuine
