"""A GPU's evidence, and how a nonce and the evidence of all GPUs are bound to the machine's."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from confide.encoding.canonical import cbor_decode, cbor_encode
from confide.errors import FormatError
from confide.protocol.gpu import GpuDevice, GpuEvidence, gpu_binding, gpu_nonce
from confide.vendors.nvidia.spdm import MAX_REPORT
from tests.support.simulated_gpu import SimulatedGpu

DEVICES = [GpuDevice("hopper", f"GPU-{n}", (bytes([n]),) * 5) for n in range(2)]


def test_evidence(gpu: SimulatedGpu) -> None:
    evidence = GpuEvidence.of(gpu.device, gpu.report())
    assert GpuEvidence.parse(evidence.encode()) == evidence


def changed(gpu: SimulatedGpu, **changes: object) -> bytes:
    value = cbor_decode(gpu.evidence(), what="test", limit=1 << 20)
    assert isinstance(value, dict)
    merged = {**value, **changes}
    return cbor_encode({k: v for k, v in merged.items() if v is not ...})  # type: ignore[misc]


@pytest.mark.parametrize("name", ["architecture", "uuid", "certificates", "report"])
def test_evidence_without_a_field(gpu: SimulatedGpu, name: str) -> None:
    with pytest.raises(FormatError, match="no field"):
        GpuEvidence.parse(changed(gpu, **{name: ...}))


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "ampere"},
        {"architecture": "ls10"},
        {"uuid": ""},
        {"uuid": "GPU\n0"},
        {"uuid": "\u00e9"},
        {"uuid": "x" * 81},
        {"certificates": []},
        {"certificates": [b""] * 4},
        {"certificates": [b""] * 6},
        {"certificates": [b"", b"", b"", b"", ""]},
        {"certificates": [b"", b"", b"", b"", bytes(4097)]},
        {"report": bytes(MAX_REPORT + 1)},
        {"report": ""},
        {"more": 1},
    ],
)
def test_evidence_that_is_none(gpu: SimulatedGpu, changes: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        GpuEvidence.parse(changed(gpu, **changes))


def test_nonce() -> None:
    data = bytes(range(64))
    assert gpu_nonce(data) == hashlib.sha256(b"confide/gpu/1\0" + data).digest()
    assert gpu_nonce(data) != gpu_nonce(data[::-1])
    for size in (0, 32, 63, 65):
        with pytest.raises(FormatError):
            gpu_nonce(bytes(size))


def test_binding_says_how_many_and_which() -> None:
    assert cbor_decode(gpu_binding([]), what="x") == {"devices": [], "refusal": ""}
    assert gpu_binding([]) != gpu_binding([], "no-gpu") != gpu_binding([], "gpu-cc-off")
    both = gpu_binding(DEVICES)
    changes = (
        DEVICES[:1],
        DEVICES[::-1],
        [*DEVICES, DEVICES[0]],
        [DEVICES[0], replace(DEVICES[1], uuid="GPU-2")],
        [DEVICES[0], replace(DEVICES[1], architecture="blackwell")],
        [DEVICES[0], replace(DEVICES[1], certificates=(b"x",) * 5)],
    )
    assert len({both, *map(gpu_binding, changes)}) == len(changes) + 1
