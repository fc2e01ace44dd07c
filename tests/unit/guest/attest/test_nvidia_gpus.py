"""GPUs through a FAKE NVML: evidence that the real verifier accepts, and every reason to refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pynvml
import pytest

from confide.errors import ConfideError, FormatError, PolicyError, UnavailableError
from confide.guest.attest.nvidia import NvidiaGpus
from confide.protocol.binding import report_data
from confide.protocol.gpu import REFUSALS, GpuEvidence, gpu_binding, gpu_nonce
from tests.support.fake_nvml import MEMORY, VERSION, FakeNvml, install_driver
from tests.support.judged import judge_gpus
from tests.support.simulated_gpu import NONCE, NOW, SimulatedGpu, SimulatedNvidia, policy

READY = pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE
NOT_READY = pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_FALSE


@pytest.fixture(scope="module")
def nvidia() -> SimulatedNvidia:
    return SimulatedNvidia()


@pytest.fixture(scope="module")
def simulated(nvidia: SimulatedNvidia) -> list[SimulatedGpu]:
    return [nvidia.gpu("GPU-0"), nvidia.gpu("GPU-1")]


@pytest.fixture
def nvml(simulated: list[SimulatedGpu]) -> FakeNvml:
    return FakeNvml(simulated)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return install_driver(tmp_path)


@pytest.fixture
def gpus(nvml: FakeNvml, root: Path) -> NvidiaGpus:
    return NvidiaGpus(nvml, root)


def test_evidence_passes_the_real_verifier(
    nvidia: SimulatedNvidia, simulated: list[SimulatedGpu], nvml: FakeNvml, gpus: NvidiaGpus
) -> None:
    """The whole way: devices into the machine's report data, its nonce into the GPUs' reports."""
    bound = report_data("confide/test/1", bytes(32), [gpu_binding(gpus.devices())])
    evidence = [item.encode() for item in gpus.evidence(gpu_nonce(bound))]

    def passes(evidence: list[bytes]) -> bool:
        devices = [GpuEvidence.parse(item).device for item in evidence]
        again = report_data("confide/test/1", bytes(32), [gpu_binding(devices)])
        return judge_gpus(
            evidence,
            nonce=gpu_nonce(again),
            policy=policy(minimum_count=2, maximum_count=2),
            collateral=nvidia.collateral(*simulated),
            now=NOW,
            roots=nvidia.roots,
        ).passed

    assert passes(evidence)
    assert not passes(evidence[:1])
    assert not passes(evidence[::-1])
    assert nvml.opened == 0


def test_devices_are_what_the_evidence_is_about(
    simulated: list[SimulatedGpu], gpus: NvidiaGpus
) -> None:
    devices = gpus.devices()
    assert devices == tuple(gpu.device for gpu in simulated)
    assert [item.device for item in gpus.evidence(NONCE)] == list(devices)


def test_making_evidence_sets_nothing_ready(nvml: FakeNvml, gpus: NvidiaGpus) -> None:
    gpus.devices()
    gpus.evidence(NONCE)
    assert nvml.ready == NOT_READY
    assert "nvmlSystemSetConfComputeGpusReadyState" not in nvml.calls


def test_the_ready_state(nvml: FakeNvml, gpus: NvidiaGpus) -> None:
    assert not gpus.ready()
    for _ in range(2):
        gpus.set_ready()
        assert gpus.ready()
    assert nvml.ready == READY


def test_a_ready_state_that_the_driver_refuses(nvml: FakeNvml, gpus: NvidiaGpus) -> None:
    nvml.failing["nvmlSystemSetConfComputeGpusReadyState"] = pynvml.NVML_ERROR_NO_PERMISSION
    with pytest.raises(UnavailableError, match="start the machine again") as caught:
        gpus.set_ready()
    assert caught.value.code == "gpu-ready-state"
    assert (nvml.ready, nvml.opened) == (NOT_READY, 0)


def test_memory(gpus: NvidiaGpus) -> None:
    assert gpus.memory() == (MEMORY, MEMORY)


def refused(gpus: NvidiaGpus, kind: type[ConfideError], code: str) -> ConfideError:
    """There is no evidence, for a reason that a machine's evidence can carry."""
    for call in (gpus.devices, lambda: gpus.evidence(NONCE)):
        with pytest.raises(kind) as caught:
            call()
        assert caught.value.code == code
    assert code in REFUSALS
    return caught.value


def test_no_gpu(root: Path) -> None:
    gpus = NvidiaGpus(FakeNvml(), root)
    refused(gpus, UnavailableError, "no-gpu")
    with pytest.raises(UnavailableError):
        gpus.memory()


@pytest.mark.parametrize(
    ("vendor", "device_class"), [("0x1af4", "0x030200"), ("0x10de", "0x068000"), ("", "")]
)
def test_no_gpu_on_the_bus(nvml: FakeNvml, root: Path, vendor: str, device_class: str) -> None:
    """An NVSwitch is no GPU, and neither is another vendor's."""
    (root / "sys/module/nvidia/version").unlink()
    device = root / "sys/bus/pci/devices/0000:01:00.0"
    (device / "vendor").write_text(vendor)
    (device / "class").write_text(device_class)
    assert refused(NvidiaGpus(nvml, root), UnavailableError, "no-gpu").seen == "none on the PCI bus"
    assert nvml.calls == []


def test_a_gpu_that_nothing_drives(nvml: FakeNvml, root: Path) -> None:
    (root / "sys/module/nvidia/version").unlink()
    error = refused(NvidiaGpus(nvml, root), UnavailableError, "gpu-driver")
    assert error.expected == "the kernel module nvidia"


@pytest.mark.parametrize("file", [f"{VERSION}/gsp_tu10x.bin", "535.1.1/gsp_ga10x.bin"])
def test_no_firmware_for_this_module(nvml: FakeNvml, root: Path, file: str) -> None:
    folder = root / "opt/driver/firmware/nvidia"
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / VERSION / "gsp_ga10x.bin").rename(folder / file)
    error = refused(NvidiaGpus(nvml, root), UnavailableError, "gpu-firmware-missing")
    expected = f"nvidia/{VERSION}/gsp_ga10x.bin in /opt/driver/firmware or /lib/firmware"
    assert error.expected == expected
    assert error.seen == ("versions 535.1.1" if "535" in file else "none")


def test_firmware_where_the_kernel_does_not_look(nvml: FakeNvml, root: Path) -> None:
    (root / "sys/module/firmware_class/parameters/path").write_text("\n")
    refused(NvidiaGpus(nvml, root), UnavailableError, "gpu-firmware-missing")
    (root / "lib").mkdir()
    (root / "opt/driver/firmware").rename(root / "lib/firmware")
    assert len(NvidiaGpus(nvml, root).devices()) == 2


def test_no_daemon_that_holds_the_gpus(nvml: FakeNvml, root: Path) -> None:
    (root / "run/nvidia-persistenced/nvidia-persistenced.pid").unlink()
    gpus = NvidiaGpus(nvml, root)
    refused(gpus, UnavailableError, "gpu-not-held")
    assert not gpus.ready(), "who only asks for the state gets it"


@pytest.mark.parametrize(
    "code", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH]
)
def test_a_library_that_does_not_fit_the_module(nvml: FakeNvml, root: Path, code: int) -> None:
    install_driver(root, "570.1")
    nvml.failing["nvmlInit"] = code
    error = refused(NvidiaGpus(nvml, root), UnavailableError, "gpu-driver-mismatch")
    assert error.expected == "a library of version 570.1"
    assert f"12.{VERSION}" in error.seen


def test_no_library_to_ask_for_its_version(
    nvml: FakeNvml, gpus: NvidiaGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: FakeNvml) -> str:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(FakeNvml, "nvmlSystemGetNVMLVersion", fails)
    nvml.failing["nvmlInit"] = pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
    error = refused(gpus, UnavailableError, "gpu-driver-mismatch")
    assert error.seen == str(pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))


def test_a_driver_that_does_not_answer(nvml: FakeNvml, gpus: NvidiaGpus) -> None:
    nvml.failing["nvmlInit"] = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    refused(gpus, UnavailableError, "gpu-driver")
    with pytest.raises(UnavailableError):
        gpus.ready()


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
    nvml: FakeNvml, gpus: NvidiaGpus, setting: str, value: int, code: str
) -> None:
    nvml.settings[setting] = value
    refused(gpus, PolicyError, code)
    assert nvml.opened == 0


def test_protected_pcie_is_told_from_no_confidential_mode(nvml: FakeNvml, gpus: NvidiaGpus) -> None:
    """With the first, the driver says the second, too."""
    nvml.settings["ccFeature"] = pynvml.NVML_CC_SYSTEM_FEATURE_DISABLED
    nvml.settings["multiGpuMode"] = pynvml.NVML_CC_SYSTEM_MULTIGPU_PROTECTED_PCIE
    refused(gpus, PolicyError, "gpu-protected-pcie")


def test_encrypted_nvlink_is_fine(nvml: FakeNvml, gpus: NvidiaGpus) -> None:
    nvml.settings["multiGpuMode"] = pynvml.NVML_CC_SYSTEM_MULTIGPU_NVLE
    assert len(gpus.devices()) == 2


def test_an_architecture_without_confidential_computing(
    simulated: list[SimulatedGpu], root: Path
) -> None:
    ampere = FakeNvml([replace(simulated[0], architecture="ampere")])
    refused(NvidiaGpus(ampere, root), PolicyError, "gpu-unsupported")


@pytest.mark.parametrize(
    "function",
    [
        "nvmlSystemGetConfComputeSettings",
        "nvmlDeviceGetHandleByIndex",
        "nvmlDeviceGetConfComputeGpuCertificate",
        "nvmlDeviceGetUUID",
    ],
)
def test_a_driver_that_refuses(nvml: FakeNvml, gpus: NvidiaGpus, function: str) -> None:
    nvml.failing[function] = pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
    refused(gpus, UnavailableError, "gpu-driver")
    assert nvml.opened == 0


def test_a_gpu_that_makes_no_report(nvml: FakeNvml, gpus: NvidiaGpus) -> None:
    nvml.failing["nvmlDeviceGetConfComputeGpuAttestationReport"] = pynvml.NVML_ERROR_UNKNOWN
    with pytest.raises(UnavailableError) as caught:
        gpus.evidence(NONCE)
    assert caught.value.code == "gpu-driver"


def test_what_comes_after_a_report_is_left_out(nvml: FakeNvml, gpus: NvidiaGpus) -> None:
    nvml.after_report = b"\0" * 7
    for item in gpus.evidence(NONCE):
        assert GpuEvidence.parse(item.encode()).report == item.report
        assert not item.report.endswith(bytes(7))


def bad_answer(gpus: NvidiaGpus) -> None:
    with pytest.raises(UnavailableError) as caught:
        gpus.evidence(NONCE)
    assert caught.value.code == "gpu-bad-answer"


def test_a_report_over_another_nonce(
    simulated: list[SimulatedGpu], gpus: NvidiaGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = simulated[0].report(bytes(32))
    monkeypatch.setattr(SimulatedGpu, "report", lambda gpu, nonce: stale)
    bad_answer(gpus)


def test_a_report_that_is_none(gpus: NvidiaGpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedGpu, "report", lambda gpu, nonce: bytes(100))
    bad_answer(gpus)


@pytest.mark.parametrize("certificates", [0, 4])
def test_certificates_that_are_no_chain(
    simulated: list[SimulatedGpu], root: Path, certificates: int
) -> None:
    gpu = replace(simulated[0], chain=simulated[0].chain[:certificates])
    bad_answer(NvidiaGpus(FakeNvml([gpu]), root))


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_nonce_of_another_size(nvml: FakeNvml, gpus: NvidiaGpus, size: int) -> None:
    with pytest.raises(FormatError):
        gpus.evidence(bytes(size))
    assert nvml.calls == []
