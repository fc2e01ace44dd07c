"""A worker's GPUs: none takes work before its own evidence has passed, each time the worker joins.

The verdict is the coordinator's own, made here first: by the manifest that the worker joins under,
with the collateral that the coordinator has. A worker that is shown another manifest than clients
pin sets its GPUs ready for a mesh that no client trusts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from confide.errors import ConfideError, VerificationError
from confide.protocol.collateral import Bundle
from confide.protocol.evidence import Evidence
from confide.protocol.gpu import REFUSALS, GpuDevice, GpuEvidence, gpu_binding, gpu_nonce
from confide.protocol.manifest import Manifest
from confide.verify.evidence import verify_gpu_evidence
from confide.verify.parsed import ParsedEvidence

if TYPE_CHECKING:
    from confide.guest.attest.service import Attester


class GpuDriver(Protocol):
    """What is needed of issue.gpus.RemoteGpus, or of issue.nvidia.NvidiaGpus.

    What speaks against the GPUs is raised as an error with one of `formats.gpu.REFUSALS` as code.
    """

    def devices(self) -> Sequence[GpuDevice]:
        """Every GPU, in a fixed order."""

    def evidence(self, nonce: bytes) -> Sequence[GpuEvidence]:
        """Every GPU's report over `nonce`, in that order."""

    def set_ready(self, ready: bool) -> None:
        """Let the GPUs take work, or take that back for good."""


class AttestedGpus:
    """The GPUs of a machine of this role. `now` gives unix seconds."""

    def __init__(
        self,
        driver: GpuDriver,
        role: str,
        collateral: Callable[[], Bundle],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._driver = driver
        self._role = role
        self._collateral = collateral
        self._now = now

    def attest(
        self, attester: Attester, report_data: Callable[[bytes], bytes], manifest: Manifest
    ) -> tuple[Evidence, ConfideError | None]:
        """Evidence of the machine and its GPUs, and what speaks against these, None if nothing.

        `report_data` gives the 64 bytes to bind for a `gpu_binding`. The evidence is to be shown in
        any case: it says itself why there are no GPUs in it, or what of them does not pass. Raises
        what the attester raises, and what keeps the collateral away.
        """
        try:
            bound = report_data(gpu_binding(self._driver.devices()))
            machine = attester.evidence(bound)
            # After the machine's own, over what that binds: so neither goes without the other.
            gpus = self._driver.evidence(gpu_nonce(bound))
        except ConfideError as error:
            if error.code not in REFUSALS:
                raise
            machine = attester.evidence(report_data(gpu_binding((), error.code)))
            return replace(machine, gpu_refusal=error.code), error
        evidence = replace(machine, gpus=tuple(gpu.encode() for gpu in gpus))
        verdict = verify_gpu_evidence(
            ParsedEvidence(evidence),
            report_data=bound,
            manifest=manifest,
            role=self._role,
            collateral=self._collateral(),
            now=int(self._now()),
        )
        try:
            verdict.require()
        except VerificationError as error:
            return evidence, error
        return evidence, None

    def set_ready(self, ready: bool) -> None:
        """Let the GPUs take work, or take that back for good. Raises UnavailableError."""
        self._driver.set_ready(ready)
