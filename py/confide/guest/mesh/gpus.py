"""A worker's GPUs. Each time the worker joins, they take no work before their evidence has passed.

The worker makes the same verification as the coordinator, with the manifest that it was launched
for and the collateral that it has from its coordinator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from confide.errors import ConfideError, VerificationError
from confide.guest.mesh.coordinator import VerifiedMesh
from confide.protocol.evidence import Evidence
from confide.protocol.gpu import REFUSALS, GpuDevice, GpuEvidence, gpu_binding, gpu_nonce
from confide.verify.evidence import verify_gpu_evidence
from confide.verify.parsed import ParsedEvidence

if TYPE_CHECKING:
    from confide.guest.attest.service import Attester


class GpuDriver(Protocol):
    """What is needed of issue.gpus.RemoteGpus, or of issue.nvidia.NvidiaGpus.

    A reason to refuse the GPUs is raised as an error with one of `protocol.gpu.REFUSALS` as code.
    """

    def devices(self) -> Sequence[GpuDevice]:
        """Every GPU, in a fixed order."""

    def evidence(self, nonce: bytes) -> Sequence[GpuEvidence]:
        """Every GPU's report over `nonce`, in that order."""

    def set_ready(self) -> None:
        """Allow the GPUs to take work."""


class AttestedGpus:
    """The GPUs of a machine of this role. `now` gives unix seconds."""

    def __init__(
        self,
        driver: GpuDriver,
        role: str,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._driver = driver
        self._role = role
        self._now = now

    def attest(
        self, attester: Attester, report_data: Callable[[bytes], bytes], mesh: VerifiedMesh
    ) -> tuple[Evidence, ConfideError | None]:
        """Evidence of the machine and its GPUs, and the reason to refuse the GPUs, or None.

        `report_data` gives the 64 bytes to bind for a `gpu_binding`. The coordinator
        gets the evidence in each case: it says why it holds no GPUs, or which check fails. Raises
        what the attester raises.
        """
        try:
            bound = report_data(gpu_binding(self._driver.devices()))
            machine = attester.evidence(bound)
            # After the machine's own evidence and over what it binds: the two belong together.
            gpus = self._driver.evidence(gpu_nonce(bound))
        except ConfideError as error:
            if error.code not in REFUSALS:
                raise
            machine = attester.evidence(report_data(gpu_binding((), error.code)))
            return replace(machine, gpu_refusal=error.code), error
        evidence = replace(machine, gpus=tuple(gpu.encode() for gpu in gpus))
        parsed, bundle = ParsedEvidence(evidence), mesh.collateral.bundle
        verdict = verify_gpu_evidence(
            parsed,
            report_data=bound,
            manifest=mesh.manifest,
            role=self._role,
            collateral=bundle,
            now=int(self._now()),
        )
        try:
            verdict.require()
        except VerificationError as error:
            return evidence, error
        mesh.collateral.use_for(parsed, self._role, mesh.manifest, bundle)
        return evidence, None

    def set_ready(self) -> None:
        """Allow the GPUs to take work. Raises UnavailableError."""
        self._driver.set_ready()
