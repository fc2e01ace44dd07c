"""GPUs through a FAKE NVML: evidence that the real verifier accepts, and every reason to refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pynvml
import pytest
from confide.errors import (
    ConfideError,
    FormatError,
    PolicyError,
    UnavailableError,
    VerificationError,
)
from confide.formats.binding import report_data
from confide.formats.gpu import GpuEvidence, gpu_binding, gpu_nonce
from confide.formats.gpu_collateral import GpuCollateral
from confide.issue.nvidia import NvidiaGpus
from confide.verify.nvidia import verify_gpus
from confide.verify.verdict import Check, Verdict

from tests.support.fake_nvml import FakeNvml
from tests.support.simulated_gpu import NONCE, NOW, SimulatedGpu, SimulatedNvidia, policy

READY = pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE
NOT_READY = pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_FALSE
GOOD = Verdict((Check("check", "", "", True, "test"),))
BAD = Verdict((Check("measurements", "these", "those", False, "test"),))


@pytest.fixture(scope="module")
def nvidia() -> SimulatedNvidia:
    return SimulatedNvidia()


@pytest.fixture(scope="module")
def simulated(nvidia: SimulatedNvidia) -> list[SimulatedGpu]:
    return [nvidia.gpu("GPU-0"), nvidia.gpu("GPU-1")]


@pytest.fixture
def nvml(simulated: list[SimulatedGpu]) -> FakeNvml:
    return FakeNvml(simulated)


def test_evidence_passes_the_real_verifier(
    nvidia: SimulatedNvidia, simulated: list[SimulatedGpu], nvml: FakeNvml
) -> None:
    """The whole way: devices into the machine's report data, its nonce into the GPUs' reports."""
    gpus = NvidiaGpus(nvml)
    bound = report_data("confide/test/1", bytes(32), [gpu_binding(gpus.devices())])
    collateral = nvidia.collateral(*simulated)

    def verify(evidence: Sequence[bytes]) -> Verdict:
        devices = [GpuEvidence.parse(item).device for item in evidence]
        again = report_data("confide/test/1", bytes(32), [gpu_binding(devices)])
        return verify_gpus(
            evidence,
            nonce=gpu_nonce(again),
            policy=policy(minimum_count=2, maximum_count=2),
            collateral=collateral,
            now=NOW,
            roots=nvidia.roots,
        )

    evidence = gpus.make_ready(gpu_nonce(bound), verify)
    assert len(evidence) == 2
    assert nvml.ready == READY
    assert nvml.opened == 0
    assert not verify(evidence[:1]).passed
    assert not verify(evidence[::-1]).passed


def test_devices_are_what_the_evidence_is_about(
    simulated: list[SimulatedGpu], nvml: FakeNvml
) -> None:
    gpus = NvidiaGpus(nvml)
    devices = gpus.devices()
    assert devices == tuple(gpu.device for gpu in simulated)
    assert [item.device for item in gpus.evidence(NONCE)] == list(devices)


def test_ready_is_set_last(nvml: FakeNvml) -> None:
    def verify(evidence: Sequence[bytes]) -> Verdict:
        assert nvml.ready == NOT_READY
        assert "nvmlSystemSetConfComputeGpusReadyState" not in nvml.calls
        return GOOD

    NvidiaGpus(nvml).make_ready(NONCE, verify)
    assert nvml.ready == READY
    assert nvml.calls[-2:] == ["nvmlSystemSetConfComputeGpusReadyState", "nvmlShutdown"]


@pytest.mark.parametrize("verdict", [BAD, Verdict(())])
def test_failed_attestation_takes_readiness_back(nvml: FakeNvml, verdict: Verdict) -> None:
    nvml.ready = READY
    with pytest.raises(VerificationError):
        NvidiaGpus(nvml).make_ready(NONCE, lambda evidence: verdict)
    assert nvml.ready == NOT_READY


def test_the_failed_check_is_named(nvml: FakeNvml) -> None:
    with pytest.raises(VerificationError, match="'measurements' failed"):
        NvidiaGpus(nvml).make_ready(NONCE, lambda evidence: BAD)


def test_the_real_verifier_refuses_and_the_gpus_stay_off(nvml: FakeNvml) -> None:
    """With NVIDIA's real roots a simulated GPU is nobody's."""

    def verify(evidence: Sequence[bytes]) -> Verdict:
        wanted = policy(minimum_count=2, maximum_count=2)
        return verify_gpus(
            evidence, nonce=NONCE, policy=wanted, collateral=GpuCollateral(), now=NOW
        )

    with pytest.raises(VerificationError, match="certificates root"):
        NvidiaGpus(nvml).make_ready(NONCE, verify)
    assert nvml.ready == NOT_READY


def refused(nvml: FakeNvml, kind: type[ConfideError], code: str) -> None:
    """Every way in is shut, and nothing is left open or ready."""
    gpus = NvidiaGpus(nvml)
    for call in (
        gpus.devices,
        lambda: gpus.evidence(NONCE),
        lambda: gpus.make_ready(NONCE, lambda evidence: GOOD),
    ):
        with pytest.raises(kind) as caught:
            call()
        assert caught.value.code == code
        assert nvml.opened == 0
        assert nvml.ready == NOT_READY


def test_no_gpu() -> None:
    refused(FakeNvml(), UnavailableError, "no-gpu")


@pytest.mark.parametrize(
    "code", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED]
)
def test_no_driver(nvml: FakeNvml, code: int) -> None:
    nvml.failing["nvmlInit"] = code
    refused(nvml, UnavailableError, "no-gpu")


@pytest.mark.parametrize(
    ("setting", "value", "code"),
    [
        ("ccFeature", pynvml.NVML_CC_SYSTEM_FEATURE_DISABLED, "gpu-cc-off"),
        ("ccFeature", 7, "gpu-cc-off"),
        ("devToolsMode", pynvml.NVML_CC_SYSTEM_DEVTOOLS_MODE_ON, "gpu-devtools-on"),
        ("environment", pynvml.NVML_CC_SYSTEM_ENVIRONMENT_SIM, "gpu-not-production"),
        ("environment", pynvml.NVML_CC_SYSTEM_ENVIRONMENT_UNAVAILABLE, "gpu-not-production"),
        ("multiGpuMode", pynvml.NVML_CC_SYSTEM_MULTIGPU_PROTECTED_PCIE, "gpu-protected-pcie"),
    ],
)
def test_settings_that_keep_nothing_confidential(
    nvml: FakeNvml, setting: str, value: int, code: str
) -> None:
    nvml.settings[setting] = value
    refused(nvml, PolicyError, code)


def test_encrypted_nvlink_is_fine(nvml: FakeNvml) -> None:
    nvml.settings["multiGpuMode"] = pynvml.NVML_CC_SYSTEM_MULTIGPU_NVLE
    assert len(NvidiaGpus(nvml).devices()) == 2


def test_an_architecture_without_confidential_computing(simulated: list[SimulatedGpu]) -> None:
    refused(
        FakeNvml([replace(simulated[0], architecture="ampere")]), PolicyError, "gpu-unsupported"
    )


@pytest.mark.parametrize(
    "function",
    [
        "nvmlSystemGetConfComputeSettings",
        "nvmlDeviceGetHandleByIndex",
        "nvmlDeviceGetConfComputeGpuCertificate",
        "nvmlDeviceGetUUID",
    ],
)
def test_a_driver_that_refuses(nvml: FakeNvml, function: str) -> None:
    nvml.failing[function] = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
    refused(nvml, UnavailableError, "gpu-driver")


def test_a_gpu_that_makes_no_report(nvml: FakeNvml) -> None:
    nvml.failing["nvmlDeviceGetConfComputeGpuAttestationReport"] = pynvml.NVML_ERROR_UNKNOWN
    nvml.ready = READY
    with pytest.raises(UnavailableError) as caught:
        NvidiaGpus(nvml).make_ready(NONCE, lambda evidence: GOOD)
    assert caught.value.code == "gpu-driver"
    assert nvml.ready == NOT_READY


def test_readiness_that_the_driver_refuses_is_an_error(nvml: FakeNvml) -> None:
    nvml.failing["nvmlSystemSetConfComputeGpusReadyState"] = pynvml.NVML_ERROR_NO_PERMISSION
    with pytest.raises(UnavailableError) as caught:
        NvidiaGpus(nvml).make_ready(NONCE, lambda evidence: GOOD)
    assert caught.value.code == "gpu-driver"
    assert nvml.ready == NOT_READY


def test_what_comes_after_a_report_is_left_out(nvml: FakeNvml) -> None:
    nvml.after_report = b"\0" * 7
    for item in NvidiaGpus(nvml).evidence(NONCE):
        assert GpuEvidence.parse(item.encode()).report == item.report
        assert not item.report.endswith(bytes(7))


def test_a_report_over_another_nonce(
    nvml: FakeNvml, simulated: list[SimulatedGpu], monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = simulated[0].report(bytes(32))
    monkeypatch.setattr(SimulatedGpu, "report", lambda gpu, nonce: stale)
    with pytest.raises(UnavailableError) as caught:
        NvidiaGpus(nvml).evidence(NONCE)
    assert caught.value.code == "gpu-bad-answer"


def test_a_report_that_is_none(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedGpu, "report", lambda gpu, nonce: bytes(100))
    with pytest.raises(UnavailableError) as caught:
        NvidiaGpus(nvml).evidence(NONCE)
    assert caught.value.code == "gpu-bad-answer"


def test_certificates_that_are_none(simulated: list[SimulatedGpu]) -> None:
    with pytest.raises(UnavailableError) as caught:
        NvidiaGpus(FakeNvml([replace(simulated[0], chain=())])).devices()
    assert caught.value.code == "gpu-bad-answer"


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_nonce_of_another_size(nvml: FakeNvml, size: int) -> None:
    with pytest.raises(FormatError):
        NvidiaGpus(nvml).evidence(bytes(size))
    assert nvml.calls == []
