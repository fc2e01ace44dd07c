"""A worker's GPUs: none takes work before its own evidence has passed, each time the worker joins.

The verdict is the coordinator's own, made here first: by the manifest that the worker joins under,
with the collateral that the coordinator has. A worker that is shown another manifest than clients
pin sets its GPUs ready for a mesh that no client trusts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from confide.errors import VerificationError
from confide.formats.collateral import Bundle
from confide.formats.evidence import Evidence
from confide.formats.gpu import GpuDevice, gpu_nonce
from confide.formats.manifest import Manifest
from confide.verify.evidence import verify_gpu_evidence
from confide.verify.verdict import Verdict


class GpuDriver(Protocol):
    """What is needed of issue.nvidia.NvidiaGpus."""

    def devices(self) -> Sequence[GpuDevice]:
        """Every GPU, in a fixed order."""

    def make_ready(self, nonce: bytes, verify: Callable[[Sequence[bytes]], Verdict]) -> object:
        """Make every GPU's evidence over `nonce`, and set the GPUs ready if it passes, else not.

        Raises VerificationError if it does not.
        """


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

    def devices(self) -> Sequence[GpuDevice]:
        """Every GPU, in a fixed order: what the machine's report has to bind."""
        return self._driver.devices()

    def attach(
        self, evidence: Evidence, report_data: bytes, manifest: Manifest
    ) -> tuple[Evidence, Verdict]:
        """The machine's evidence with that of its GPUs, and the verdict on these.

        If it has passed, the GPUs are ready for work, else they are set not ready. `report_data`
        (64 bytes) is what the machine's own evidence binds. Raises UnavailableError or PolicyError
        if there is nothing to verify.
        """
        collateral = self._collateral()
        attached, verdict = evidence, Verdict(())

        def verify(gpus: Sequence[bytes]) -> Verdict:
            nonlocal attached, verdict
            attached = replace(evidence, gpus=tuple(gpus))
            verdict = verify_gpu_evidence(
                attached,
                report_data=report_data,
                manifest=manifest,
                role=self._role,
                collateral=collateral,
                now=int(self._now()),
            )
            return verdict

        with suppress(VerificationError):  # the verdict says it
            self._driver.make_ready(gpu_nonce(report_data), verify)
        return attached, verdict
