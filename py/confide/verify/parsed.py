"""Evidence, read once: the typed value that collateral look-up, verifiers and verdicts share.

Nothing in it is verified. What cannot be read is kept as the error that says why, so that a verdict
can show it; reading never raises. `protocol.evidence.Evidence` has the same as bytes.

Source: RFC 9334 "RATS Architecture", 8.1 (evidence).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache

from confide.errors import FormatError
from confide.protocol.evidence import Evidence
from confide.protocol.gpu import GpuDevice, GpuEvidence
from confide.verify.machine import Machine, SnpEvidence, TdxEvidence, VtpmEvidence, read
from confide.verify.nvidia.device import Device

_MACHINES: dict[str, Callable[[Evidence], Machine]] = {
    "vtpm": VtpmEvidence.parse,
    "sev-snp": SnpEvidence.parse,
    "tdx": TdxEvidence.parse,
}


class ParsedEvidence:
    """One machine's evidence and everything in it, each part read when it is first asked for.

    A verifier that refuses a machine never asks for its GPUs, so that it spends no time on these.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @classmethod
    def parse(cls, data: bytes) -> ParsedEvidence:
        """Evidence as it travels (CBOR of at most 1 MiB).

        The same bytes give the same object for a while: a client looks up collateral by what it
        then verifies.

        Raises:
            FormatError: the bytes are not one map of the form that `Evidence` describes.
        """
        return _parse(data)

    @property
    def platform(self) -> str:
        """One of `protocol.evidence.PLATFORMS`, as the machine states it."""
        return self._evidence.platform

    @property
    def gpu_refusal(self) -> str:
        """Why the machine shows no GPU although it should: one of `REFUSALS`, else ""."""
        return self._evidence.gpu_refusal

    @property
    def gpu_count(self) -> int:
        """How many GPUs the machine shows evidence of."""
        return len(self._evidence.gpus)

    @cached_property
    def machine(self) -> Machine | FormatError:
        """What the platform's own report says."""
        return read(_MACHINES[self.platform], self._evidence)

    @cached_property
    def gpus(self) -> tuple[Device | FormatError, ...]:
        """Each GPU with its report and certificates, in the order in which they came."""
        return tuple(
            item if isinstance(item, FormatError) else read(Device.parse, item)
            for item in self._gpus
        )

    def gpu_devices(self) -> list[GpuDevice]:
        """What the machine says of each GPU; `protocol.gpu.gpu_binding` makes one item of it.

        Raises:
            FormatError: a GPU's evidence is not of its form.
        """
        devices = []
        for item in self._gpus:
            if isinstance(item, FormatError):
                raise item
            devices.append(item.device)
        return devices

    @cached_property
    def _gpus(self) -> tuple[GpuEvidence | FormatError, ...]:
        return tuple(read(GpuEvidence.parse, item) for item in self._evidence.gpus)


# Remembered, because it is a function of the bytes alone: what is verified is not remembered.
@lru_cache(maxsize=4)
def _parse(data: bytes) -> ParsedEvidence:
    return ParsedEvidence(Evidence.parse(data))
