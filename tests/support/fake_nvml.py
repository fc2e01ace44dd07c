"""A FAKE NVML, for tests only: the functions of pynvml that attestation uses, over SIMULATED GPUs.

It keeps NVML's manners: fixed-size buffers with the length beside them, errors as NVMLError, one
function that returns its status and does not raise it, and nothing works before nvmlInit.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pynvml
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.simulated_gpu import SimulatedGpu

VERSION = "550.163.01"
MEMORY = 80 << 30


def install_driver(root: Path, version: str = VERSION) -> Path:
    """Make `root` look like a machine with a GPU, its kernel module, firmware and daemon."""
    files = {
        "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de",
        "sys/bus/pci/devices/0000:01:00.0/class": "0x030200",
        "sys/module/nvidia/version": version,
        "run/nvidia-persistenced/nvidia-persistenced.pid": "1",
        "sys/module/firmware_class/parameters/path": "/opt/driver/firmware",
        f"opt/driver/firmware/nvidia/{version}/gsp_ga10x.bin": "firmware",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


class FakeNvml(ModuleType):
    """Stands in for the module pynvml. `calls` has the names of what was called, in order."""

    def __init__(self, gpus: Sequence[SimulatedGpu] = ()) -> None:
        super().__init__("fake_nvml")
        self.gpus = list(gpus)
        self.calls: list[str] = []
        self.opened = 0
        self.ready: int = pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_FALSE
        self.failing: dict[str, int] = {}
        self.after_report = b""
        self.settings = {
            "environment": pynvml.NVML_CC_SYSTEM_ENVIRONMENT_PROD,
            "ccFeature": pynvml.NVML_CC_SYSTEM_FEATURE_ENABLED,
            "devToolsMode": pynvml.NVML_CC_SYSTEM_DEVTOOLS_MODE_OFF,
            "multiGpuMode": pynvml.NVML_CC_SYSTEM_MULTIGPU_NONE,
        }

    def __getattr__(self, name: str) -> object:
        """Constants and structures are the real ones; a function that is not faked is missing."""
        if name.startswith(("NVML_", "c_nvml")):
            return getattr(pynvml, name)
        raise AttributeError(name)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise pynvml.NVMLError(self.failing[name])
        if not self.opened and name not in ("nvmlInit", "nvmlShutdown"):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)

    def nvmlInit(self) -> None:
        self._call("nvmlInit")
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self._call("nvmlShutdown")
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        self._call("nvmlDeviceGetCount")
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> SimulatedGpu:
        self._call("nvmlDeviceGetHandleByIndex")
        return self.gpus[index]

    def nvmlDeviceGetUUID(self, gpu: SimulatedGpu) -> str:
        self._call("nvmlDeviceGetUUID")
        return gpu.uuid

    def nvmlDeviceGetArchitecture(self, gpu: SimulatedGpu) -> int:
        self._call("nvmlDeviceGetArchitecture")
        code: int = getattr(pynvml, f"NVML_DEVICE_ARCH_{gpu.architecture.upper()}")
        return code

    def nvmlSystemGetConfComputeSettings(self, reference: object) -> int:
        self.calls.append("nvmlSystemGetConfComputeSettings")
        if "nvmlSystemGetConfComputeSettings" in self.failing:
            return self.failing["nvmlSystemGetConfComputeSettings"]
        kind = ctypes.POINTER(pynvml.c_nvmlSystemConfComputeSettings_v1_t)
        settings = ctypes.cast(reference, kind).contents  # type: ignore[arg-type]
        if settings.version != pynvml.nvmlSystemConfComputeSettings_v1:
            return int(pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
        for name, value in self.settings.items():
            setattr(settings, name, value)
        return int(pynvml.NVML_SUCCESS)

    def nvmlDeviceGetConfComputeGpuCertificate(self, gpu: SimulatedGpu) -> object:
        self._call("nvmlDeviceGetConfComputeGpuCertificate")
        answer = pynvml.c_nvmlConfComputeGpuCertificate_t()
        pem = b"".join(a.certificate.public_bytes(Encoding.PEM) for a in gpu.chain)
        ctypes.memmove(answer.attestationCertChain, pem, len(pem))
        answer.attestationCertChainSize = len(pem)
        return answer

    def nvmlDeviceGetConfComputeGpuAttestationReport(
        self, gpu: SimulatedGpu, nonce: bytes
    ) -> object:
        self._call("nvmlDeviceGetConfComputeGpuAttestationReport")
        answer = pynvml.c_nvmlConfComputeGpuAttestationReport_t()
        answer.nonce = (ctypes.c_uint8 * len(nonce))(*nonce)
        report = gpu.report(bytes(answer.nonce)) + self.after_report
        ctypes.memmove(answer.attestationReport, report, len(report))
        answer.attestationReportSize = len(report)
        return answer

    def nvmlSystemSetConfComputeGpusReadyState(self, state: int) -> None:
        self._call("nvmlSystemSetConfComputeGpusReadyState")
        if self.settings["ccFeature"] != pynvml.NVML_CC_SYSTEM_FEATURE_ENABLED:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        self.ready = state

    def nvmlSystemGetConfComputeGpusReadyState(self) -> int:
        self._call("nvmlSystemGetConfComputeGpusReadyState")
        return self.ready

    def nvmlDeviceGetMemoryInfo(self, gpu: SimulatedGpu) -> object:
        self._call("nvmlDeviceGetMemoryInfo")
        return pynvml.c_nvmlMemory_t(total=MEMORY)

    def nvmlSystemGetNVMLVersion(self) -> str:
        """Works without nvmlInit, as the real one does."""
        self.calls.append("nvmlSystemGetNVMLVersion")
        return f"12.{VERSION}"
