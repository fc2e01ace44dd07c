"""A worker whose GPUs cannot be attested: what it says, where, and that nobody can change it.

SIMULATED SEV-SNP processor, GPU and vendors, a FAKE driver (see joining.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pynvml
import pytest

from confide.encoding.canonical import json_encode
from confide.errors import UnavailableError, VerificationError
from confide.protocol.coordinator import JoinRequest
from confide.protocol.evidence import Evidence
from confide.protocol.gpu import REFUSALS
from confide.protocol.manifest import Manifest
from confide.verify.evidence import verify_gpu_evidence
from confide.verify.parsed import ParsedEvidence
from tests.support.fake_nvml import VERSION, FakeNvml, install_driver
from tests.support.joining import NOT_READY, ROLE, Setting
from tests.support.production import manifest_value
from tests.support.simulated_amd import NOW

Break = Callable[[Setting], object]


def _set(name: str, value: int) -> Break:
    return lambda setting: setting.nvml.settings.update({name: value})


def _fail(function: str, code: int) -> Break:
    return lambda setting: setting.nvml.failing.update({function: code})


def _firmware_gone(setting: Setting) -> None:
    (setting.root / f"opt/driver/firmware/nvidia/{VERSION}/gsp_ga10x.bin").unlink()


def _daemon_gone(setting: Setting) -> None:
    (setting.root / "run/nvidia-persistenced/nvidia-persistenced.pid").unlink()


def _service_gone(setting: Setting) -> None:
    setting.service = setting.root / "nothing"


def _ampere(setting: Setting) -> None:
    setting.nvml.gpus = [replace(setting.production.gpu, architecture="ampere")]


def _no_chain(setting: Setting) -> None:
    setting.nvml.gpus = [replace(setting.production.gpu, chain=())]


# What makes a machine refuse for each reason, and what its console then says.
AGAINST: dict[str, tuple[Break, str]] = {
    "no-gpu": (lambda setting: setting.nvml.gpus.clear(), "no usable NVIDIA GPU"),
    "gpu-service": (_service_gone, ""),
    "gpu-driver": (
        _fail("nvmlDeviceGetConfComputeGpuAttestationReport", pynvml.NVML_ERROR_UNKNOWN),
        "refused a call that attestation needs",
    ),
    "gpu-driver-mismatch": (
        _fail("nvmlInit", pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH),
        "have different versions",
    ),
    "gpu-firmware-missing": (_firmware_gone, "the firmware for the loaded GPU driver is missing"),
    "gpu-cc-off": (
        _set("ccFeature", pynvml.NVML_CC_SYSTEM_FEATURE_DISABLED),
        "confidential mode of the GPUs does not allow",
    ),
    "gpu-devtools-on": (
        _set("devToolsMode", pynvml.NVML_CC_SYSTEM_DEVTOOLS_MODE_ON),
        "developer tools mode of the GPUs does not allow",
    ),
    "gpu-not-production": (
        _set("environment", pynvml.NVML_CC_SYSTEM_ENVIRONMENT_SIM),
        "environment of the GPUs does not allow",
    ),
    "gpu-protected-pcie": (
        _set("multiGpuMode", pynvml.NVML_CC_SYSTEM_MULTIGPU_PROTECTED_PCIE),
        "multi-GPU mode of the GPUs does not allow",
    ),
    "gpu-unsupported": (_ampere, "architecture of the GPUs does not allow"),
    "gpu-not-held": (_daemon_gone, "no process keeps the GPUs open"),
    "gpu-bad-answer": (_no_chain, "gave a malformed answer"),
}


def test_what_speaks_against_the_gpus_is_listed_whole() -> None:
    """Each code has its machine below."""
    assert set(AGAINST) == set(REFUSALS)


@pytest.mark.parametrize("code", REFUSALS)
def test_gpus_that_cannot_be_attested(
    setting: Setting, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It serves nothing, and says why on its console, in its evidence and at the coordinator."""
    breaks, says = AGAINST[code]
    good = setting.service
    breaks(setting)
    for _ in range(2):
        error = setting.refusal()
        assert (type(error), error.code) == (VerificationError, "not-verified")
        assert "the check 'GPU refusal' failed" in str(error)
        assert (error.expected, error.seen) == ("none", code)
    assert setting.nvml.ready == NOT_READY
    refused = setting.coordinator.refused()
    evidence = Evidence.parse(refused.evidence)
    assert (refused.role, evidence.gpu_refusal, evidence.gpus) == (ROLE, code, ())
    lines = capsys.readouterr().err.splitlines()
    if code == "gpu-service":  # what is not there says nothing
        assert lines == []
    else:
        assert len([line for line in lines if says in line]) == 1
    # The reason that it names is the reason.
    setting.service = good
    setting.nvml.settings = FakeNvml().settings
    setting.nvml.gpus, setting.nvml.failing = [setting.production.gpu], {}
    install_driver(setting.root)
    setting.node().join()


@pytest.mark.parametrize("code", ["", "gpu-cc-off"])
def test_a_refusal_that_was_exchanged_on_the_way(setting: Setting, code: str) -> None:
    setting.nvml.gpus = []

    def exchange(request: JoinRequest) -> JoinRequest:
        evidence = replace(Evidence.parse(request.evidence), gpu_refusal=code)
        return replace(request, evidence=evidence.encode())

    setting.relay.on_request = exchange
    assert "'report data'" in str(setting.refusal())


def test_a_refusal_that_was_added_on_the_way(setting: Setting) -> None:
    def add(request: JoinRequest) -> JoinRequest:
        evidence = replace(Evidence.parse(request.evidence), gpu_refusal="no-gpu")
        return replace(request, evidence=evidence.encode())

    setting.relay.on_request = add
    assert "'report data'" in str(setting.refusal())


def test_a_machine_that_says_why_its_gpus_are_refused_and_shows_them(setting: Setting) -> None:
    """A refusal counts, whatever comes with it."""
    evidence = Evidence("sev-snp", b"", (), b"", (b"gpu",), "gpu-cc-off")
    verdict = verify_gpu_evidence(
        ParsedEvidence(evidence),
        report_data=bytes(64),
        manifest=Manifest.parse(json_encode(manifest_value())),
        role=ROLE,
        collateral=setting.production.bundle(),
        now=NOW,
    )
    assert [check.name for check in verdict.checks] == ["GPU refusal"]
    assert not verdict.passed


def test_a_processor_that_makes_no_report_is_no_reason_against_gpus(setting: Setting) -> None:
    def busy(evidence: Evidence, report_data: bytes) -> Evidence:
        raise UnavailableError("tsm-busy", "the processor makes no report")

    setting.attester.alter = busy
    assert setting.refusal().code == "tsm-busy"


def test_the_reason_is_gone_with_its_cause(setting: Setting) -> None:
    gpus, setting.nvml.gpus = setting.nvml.gpus, []
    node = setting.node()
    with pytest.raises(VerificationError):
        node.join()
    assert node.reason == "no-gpu"
    setting.nvml.gpus = gpus
    node.join()
    assert node.reason != "no-gpu"


def test_the_console_has_each_reason_once(
    setting: Setting, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of the GPU service, and of the program that joins and joins."""
    setting.nvml.gpus = []
    attempts = threading.Semaphore(0)

    def count(request: JoinRequest) -> JoinRequest:
        attempts.release()
        return request

    setting.relay.on_request = count
    node = setting.node()
    node.start()
    for _ in range(3):
        assert attempts.acquire(timeout=10)
    assert node.reason == "no-gpu", "the coordinator's code is not-verified, whatever failed"
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "there is no usable NVIDIA GPU" in lines[0]
    assert "joining failed" in lines[1]
    assert "the check 'GPU refusal' failed; expected none; seen no-gpu" in lines[1]
