"""The NVIDIA GPUs of this machine, through NVML: their state, their evidence, and their release.

A GPU in confidential mode takes no work until it is set ready. `confide.guest.mesh.join` does so
after its evidence has passed.

Source: NVIDIA NVML API reference, "Confidential Computing"; for how ready states follow each other,
confComputeApiCtrlCmdSystemSetGpusState of NVIDIA's open kernel modules (550.163.01).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import pynvml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confide.errors import FormatError, PolicyError, UnavailableError
from confide.guest.attest.driver import check_driver, check_held, no_gpu
from confide.protocol.gpu import CHAIN_LENGTH, GpuDevice, GpuEvidence
from confide.vendors.nvidia.spdm import NONCE_SIZE, Report

_ARCHITECTURES = {
    pynvml.NVML_DEVICE_ARCH_HOPPER: "hopper",
    pynvml.NVML_DEVICE_ARCH_BLACKWELL: "blackwell",
}
_OTHER_VERSION = (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)


class NvidiaGpus:
    """All GPUs of the machine. Thread-safe: each call opens NVML.

    Every method raises UnavailableError if there is no GPU, if driver, firmware and library do not
    match, or if NVML fails. `root` is the root of the file system.
    """

    def __init__(self, nvml: ModuleType = pynvml, root: Path = Path("/")) -> None:
        self._nvml = nvml
        self._root = root

    def devices(self) -> tuple[GpuDevice, ...]:
        """Every GPU with its certificates, in NVML's order: the machine's report binds them.

        Raises PolicyError if the GPUs are not set up for confidential work.
        """
        with self._session() as handles:
            self._check_settings()
            check_held(self._root)
            return tuple(self._device(handle) for handle in handles)

    def evidence(self, nonce: bytes) -> tuple[GpuEvidence, ...]:
        """Every GPU's signed report over this nonce of 32 bytes, in the order of `devices`.

        Raises PolicyError if the GPUs are not set up for confidential work.
        """
        if len(nonce) != NONCE_SIZE:
            raise FormatError(
                "bad-nonce",
                "the nonce for the GPUs has the wrong size",
                expected=f"{NONCE_SIZE} bytes",
                seen=f"{len(nonce)} bytes",
            )
        with self._session() as handles:
            self._check_settings()
            check_held(self._root)
            return tuple(
                GpuEvidence.of(self._device(handle), self._report(handle, nonce))
                for handle in handles
            )

    def set_ready(self) -> None:
        """Allow the GPUs to take work. Needs CAP_SYS_ADMIN."""
        nvml = self._nvml
        with self._open():
            try:
                nvml.nvmlSystemSetConfComputeGpusReadyState(
                    nvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE
                )
            except pynvml.NVMLError as error:
                raise UnavailableError(
                    "gpu-ready-state",
                    "the driver does not set the GPUs ready",
                    expected="confidential GPUs that nothing has set not ready before",
                    seen=str(error),
                    next="start the machine again",
                ) from error

    def ready(self) -> bool:
        """Whether the GPUs take work. Needs access to the devices only."""
        with self._open():
            state = self._nvml.nvmlSystemGetConfComputeGpusReadyState()
            return bool(state == self._nvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE)

    def memory(self) -> tuple[int, ...]:
        """Bytes of memory of each GPU, in the order of `devices`."""
        with self._session() as handles:
            return tuple(int(self._nvml.nvmlDeviceGetMemoryInfo(gpu).total) for gpu in handles)

    @contextmanager
    def _session(self) -> Iterator[list[object]]:
        """The handles of all GPUs."""
        with self._open():
            count = self._nvml.nvmlDeviceGetCount()
            if not count:
                raise no_gpu("NVML counts none")
            yield [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]

    @contextmanager
    def _open(self) -> Iterator[None]:
        version = check_driver(self._root)
        try:
            self._nvml.nvmlInit()
        except pynvml.NVMLError as error:
            if error.value in _OTHER_VERSION:
                raise self._mismatch(version, error) from error
            raise _driver_refused(error) from error
        try:
            yield
        except pynvml.NVMLError as error:
            raise _driver_refused(error) from error
        finally:
            self._nvml.nvmlShutdown()

    def _mismatch(self, version: str, error: pynvml.NVMLError) -> UnavailableError:
        seen = str(error)
        with suppress(pynvml.NVMLError):  # works without nvmlInit, if there is a library
            seen = f"a library of NVML version {self._nvml.nvmlSystemGetNVMLVersion()}: {error}"
        return UnavailableError(
            "gpu-driver-mismatch",
            "the GPU driver's library and kernel module have different versions",
            expected=f"a library of version {version}",
            seen=seen,
            next="build the image with both from one release of the driver",
        )

    def _check_settings(self) -> None:
        nvml = self._nvml
        settings = nvml.c_nvmlSystemConfComputeSettings_v1_t()
        # The only function of the binding that returns its status instead of raising it.
        status = nvml.nvmlSystemGetConfComputeSettings(ctypes.byref(settings))
        if status != nvml.NVML_SUCCESS:
            raise pynvml.NVMLError(status)
        # First, because in this mode the driver says that confidential mode is off.
        if settings.multiGpuMode == nvml.NVML_CC_SYSTEM_MULTIGPU_PROTECTED_PCIE:
            expected = "none or encrypted NVLink, because NVSwitches are not verified"
            raise _not_confidential(
                "gpu-protected-pcie", "multi-GPU mode", expected, "protected PCIe"
            )
        if settings.ccFeature != nvml.NVML_CC_SYSTEM_FEATURE_ENABLED:
            raise _not_confidential("gpu-cc-off", "confidential mode", "on", "off")
        if settings.devToolsMode != nvml.NVML_CC_SYSTEM_DEVTOOLS_MODE_OFF:
            raise _not_confidential("gpu-devtools-on", "developer tools mode", "off", "on")
        if settings.environment != nvml.NVML_CC_SYSTEM_ENVIRONMENT_PROD:
            seen = str(settings.environment)
            raise _not_confidential("gpu-not-production", "environment", "production", seen)

    def _device(self, handle: object) -> GpuDevice:
        code = self._nvml.nvmlDeviceGetArchitecture(handle)
        architecture = _ARCHITECTURES.get(code)
        if architecture is None:
            expected = " or ".join(_ARCHITECTURES.values())
            raise _not_confidential("gpu-unsupported", "architecture", expected, str(code))
        chain = self._nvml.nvmlDeviceGetConfComputeGpuCertificate(handle)
        pem = bytes(chain.attestationCertChain)[: chain.attestationCertChainSize]
        try:
            certificates = x509.load_pem_x509_certificates(pem.rstrip(b"\0"))
        except ValueError as error:
            raise _bad_answer("certificates in PEM", "something else") from error
        if len(certificates) != CHAIN_LENGTH:
            raise _bad_answer(f"{CHAIN_LENGTH} certificates", str(len(certificates)))
        ders = tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
        return GpuDevice(architecture, self._nvml.nvmlDeviceGetUUID(handle), ders)

    def _report(self, handle: object, nonce: bytes) -> bytes:
        answer = self._nvml.nvmlDeviceGetConfComputeGpuAttestationReport(handle, nonce)
        data = bytes(answer.attestationReport)[: answer.attestationReportSize]
        try:
            # The driver may give more bytes than the report has.
            report, end = Report.parse_first(data)
        except FormatError as error:
            raise _bad_answer(error.expected, str(error)) from error
        if report.nonce != nonce:
            raise _bad_answer(f"a report over {nonce.hex()}", report.nonce.hex())
        return data[:end]


def _driver_refused(error: pynvml.NVMLError) -> UnavailableError:
    return UnavailableError(
        "gpu-driver",
        "the GPU driver refused a call that attestation needs",
        expected="a driver and GPUs with confidential computing",
        seen=str(error),
        next="start the machine again; if that does not help, check the GPU on the host",
    )


def _not_confidential(code: str, what: str, expected: str, seen: str) -> PolicyError:
    return PolicyError(
        code,
        f"the {what} of the GPUs does not allow confidential work",
        expected=expected,
        seen=seen,
        next="set it on the host and start the machine again",
    )


def _bad_answer(expected: str, seen: str) -> UnavailableError:
    return UnavailableError(
        "gpu-bad-answer",
        "a GPU gave a malformed answer",
        expected=expected,
        seen=seen,
        next="reset the GPU from the host",
    )
