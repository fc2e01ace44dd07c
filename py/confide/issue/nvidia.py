"""The NVIDIA GPUs of this machine, through NVML: their state, their evidence, and their release.

A GPU in confidential mode takes no work until it is set ready. Here that happens last, after its
own evidence has passed the same checks that a client makes, and it is taken back when they fail.

Source: NVIDIA NVML API reference, "Confidential Computing".
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import ModuleType

import pynvml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confide.errors import ConfideError, FormatError, PolicyError, UnavailableError
from confide.formats.gpu import GpuDevice, GpuEvidence
from confide.formats.spdm import NONCE_SIZE, Report
from confide.verify.verdict import Verdict

_ARCHITECTURES = {
    pynvml.NVML_DEVICE_ARCH_HOPPER: "hopper",
    pynvml.NVML_DEVICE_ARCH_BLACKWELL: "blackwell",
}


class NvidiaGpus:
    """All GPUs of the machine. Holds nothing open: each call opens NVML, so any thread may.

    Every method raises UnavailableError if there is no driver or no GPU or NVML fails, and
    PolicyError if the GPUs are not set up to keep anything confidential.
    """

    def __init__(self, nvml: ModuleType = pynvml) -> None:
        self._nvml = nvml

    def devices(self) -> tuple[GpuDevice, ...]:
        """Every GPU with its certificates, in NVML's order: what the machine's report binds."""
        with self._session() as handles:
            return tuple(self._device(handle) for handle in handles)

    def evidence(self, nonce: bytes) -> tuple[GpuEvidence, ...]:
        """Every GPU's signed report over this nonce of 32 bytes, in the order of `devices`."""
        if len(nonce) != NONCE_SIZE:
            raise FormatError(
                "bad-nonce",
                "the nonce for the GPUs has the wrong size",
                expected=f"{NONCE_SIZE} bytes",
                seen=f"{len(nonce)} bytes",
            )
        with self._session() as handles:
            return tuple(
                GpuEvidence(self._device(handle), self._report(handle, nonce)) for handle in handles
            )

    def make_ready(
        self, nonce: bytes, verify: Callable[[Sequence[bytes]], Verdict]
    ) -> tuple[bytes, ...]:
        """Make evidence, verify it, and only if it passes let the GPUs take work.

        Returns the encoded evidence. If it does not pass, the GPUs are set not ready (they may have
        been, from an earlier time) and VerificationError names the check.
        """
        try:
            evidence = tuple(item.encode() for item in self.evidence(nonce))
            verify(evidence).require()
        except ConfideError:
            # GPUs without confidential mode know no such state; the first error says what is wrong.
            with suppress(UnavailableError):
                self._set_ready(self._nvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_FALSE)
            raise
        self._set_ready(self._nvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE)
        return evidence

    def _set_ready(self, state: int) -> None:
        with self._nvml_open():
            self._nvml.nvmlSystemSetConfComputeGpusReadyState(state)

    @contextmanager
    def _session(self) -> Iterator[list[object]]:
        """The handles of all GPUs, once the system's settings have been found in order."""
        with self._nvml_open():
            count = self._nvml.nvmlDeviceGetCount()
            if not count:
                raise _no_gpu("NVML counts none")
            self._check_settings()
            yield [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]

    @contextmanager
    def _nvml_open(self) -> Iterator[None]:
        try:
            self._nvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise _no_gpu(str(error)) from error
        try:
            yield
        except pynvml.NVMLError as error:
            raise UnavailableError(
                "gpu-driver",
                "the GPU driver refused a call that attestation needs",
                expected="a driver and GPUs with confidential computing, in matching versions",
                seen=str(error),
                next="look at the kernel's log for messages of the driver",
            ) from error
        finally:
            self._nvml.nvmlShutdown()

    def _check_settings(self) -> None:
        nvml = self._nvml
        settings = nvml.c_nvmlSystemConfComputeSettings_v1_t()
        # The one function of the binding that returns its status and does not raise it.
        status = nvml.nvmlSystemGetConfComputeSettings(ctypes.byref(settings))
        if status != nvml.NVML_SUCCESS:
            raise pynvml.NVMLError(status)
        if settings.ccFeature != nvml.NVML_CC_SYSTEM_FEATURE_ENABLED:
            raise _not_confidential("gpu-cc-off", "confidential mode", "on", "off")
        if settings.devToolsMode != nvml.NVML_CC_SYSTEM_DEVTOOLS_MODE_OFF:
            raise _not_confidential("gpu-devtools-on", "developer tools mode", "off", "on")
        if settings.environment != nvml.NVML_CC_SYSTEM_ENVIRONMENT_PROD:
            seen = str(settings.environment)
            raise _not_confidential("gpu-not-production", "environment", "production", seen)
        if settings.multiGpuMode == nvml.NVML_CC_SYSTEM_MULTIGPU_PROTECTED_PCIE:
            expected = "none or encrypted NVLink, because NVSwitches are not verified"
            raise _not_confidential(
                "gpu-protected-pcie", "multi-GPU mode", expected, "protected PCIe"
            )

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
        ders = tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
        return GpuDevice(architecture, self._nvml.nvmlDeviceGetUUID(handle), ders)

    def _report(self, handle: object, nonce: bytes) -> bytes:
        answer = self._nvml.nvmlDeviceGetConfComputeGpuAttestationReport(handle, nonce)
        data = bytes(answer.attestationReport)[: answer.attestationReportSize]
        try:
            # What the driver gives may be longer than the report that is in it.
            report, end = Report.parse_first(data)
        except FormatError as error:
            raise _bad_answer(error.expected, str(error)) from error
        if report.nonce != nonce:
            raise _bad_answer(f"a report over {nonce.hex()}", report.nonce.hex())
        return data[:end]


def _no_gpu(seen: str) -> UnavailableError:
    return UnavailableError(
        "no-gpu",
        "there is no NVIDIA GPU that can be used",
        expected="at least one GPU and its driver",
        seen=seen,
        next="pass a GPU through to this machine, or use a role that needs none",
    )


def _not_confidential(code: str, what: str, expected: str, seen: str) -> PolicyError:
    return PolicyError(
        code,
        f"the GPUs' {what} is wrong for confidential work",
        expected=expected,
        seen=seen,
        next="set it on the host and start the machine again",
    )


def _bad_answer(expected: str, seen: str) -> UnavailableError:
    return UnavailableError(
        "gpu-bad-answer",
        "a GPU did not answer as one that can be attested",
        expected=expected,
        seen=seen,
        next="reset the GPU from the host",
    )
