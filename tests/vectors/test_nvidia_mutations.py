"""Real evidence and reference values, spoiled: no change may go unnoticed.

A verdict on real evidence never passes as a whole here (no revocation answers were recorded). So a
change counts as noticed if it makes a check fail that did not fail before.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from confide.encoding.messages import from_map
from confide.errors import FormatError
from confide.protocol.gpu import GpuDevice, GpuEvidence
from confide.protocol.policy.gpu import GpuPolicy
from confide.verify.nvidia.device import check_device, check_form
from confide.verify.nvidia.rim import verify_rim
from tests.support.judged import read_gpu
from tests.support.mutations import Parts, single_bytes, structural
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
ANYTHING = from_map(
    GpuPolicy,
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
EVIDENCE = [*FILES, *SERIALIZED]
RIMS = [
    f"{SDK}/testdata/NV_GPU_DRIVER_GH100_550.144.03.xml",
    "nvtrust/1010_0200_882_96005E0001_PROD.swidtag",
    "nvtrust/g520_0200_885_9600740001_PROD.swidtag",
]


def load(vectors: Path, name: str) -> Recorded:
    return recorded(vectors, FILES[name]) if name in FILES else serialized(vectors, name)[0]


def failing(parts: Parts, device: Recorded, architecture: str) -> set[str]:
    """The checks of one GPU's evidence that fail; only that it cannot be read, if so."""
    report, *certificates = parts or (b"",)
    evidence = GpuEvidence.of(GpuDevice(architecture, "GPU-0", tuple(certificates)), report)
    found = read_gpu(evidence)
    if isinstance(found, FormatError):
        return {check_form("GPU", found).name}
    checks = check_device("GPU", found, nonce=device.nonce, policy=ANYTHING, now=PINNED)
    return {check.name for check in checks if not check.passed}


@pytest.mark.parametrize("name", EVIDENCE)
def test_spoiled_evidence(vectors: Path, name: str) -> None:
    """Report and certificates: every byte is signed, and none is for anything else."""
    device = load(vectors, name)
    architecture = "blackwell" if name == "blackwell" else "hopper"
    parts = (device.report, *device.certificates)
    before = failing(parts, device, architecture)
    others = [
        (other.report, *other.certificates)
        for other in (load(vectors, n) for n in ("hopper-550", "hopper-580", "blackwell"))
    ]
    changes = [*single_bytes(parts, SINGLE, seed=1), *structural(parts, others, STRUCTURAL, seed=2)]
    accepted = [what for what, new in changes if failing(new, device, architecture) <= before]
    assert accepted == []


@pytest.mark.parametrize("name", RIMS)
def test_spoiled_reference_values(vectors: Path, name: str) -> None:
    """Only white space may change unnoticed, in a tag or between the letters of base64.

    The canonical form that is signed has no such white space, and the values stay what they were.
    """
    genuine = {}
    for rim in RIMS:
        xml = (vectors / rim).read_bytes()
        genuine[b"".join(xml.split())] = verify_rim(rim, xml, now=PINNED)[1]
    parts = ((vectors / name).read_bytes(),)
    others = [((vectors / other).read_bytes(),) for other in RIMS if other != name]
    changes = [*single_bytes(parts, SINGLE, seed=3), *structural(parts, others, STRUCTURAL, seed=4)]
    for what, new in changes:
        changed = b"".join(new)
        checks, signed = verify_rim(name, changed, now=PINNED)
        if all(check.passed for check in checks):
            # All of another RIM in this one's place is genuine too; its version gives it away.
            assert signed == genuine.get(b"".join(changed.split())), f"accepted: {what}"
            assert signed is not None
