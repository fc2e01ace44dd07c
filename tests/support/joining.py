"""A coordinator, a node and a GPU service for tests of joining under a production manifest.

SIMULATED SEV-SNP processor, GPU and vendors, a FAKE driver; coordinator, node, the GPU service on
its socket and the verifiers are the real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pynvml
import pytest

from confide.encoding.canonical import json_encode
from confide.errors import ConfideError, UnavailableError
from confide.guest.attest.gpus import RemoteGpus
from confide.guest.coordinator.domain import Coordinator
from confide.guest.mesh.gpus import AttestedGpus
from confide.guest.mesh.join import Node
from confide.protocol.collateral import Bundle
from confide.protocol.evidence import Evidence
from tests.support.fake_nvml import FakeNvml
from tests.support.local_coordinator import LocalCoordinator
from tests.support.production import Production, manifest_value
from tests.support.simulated_amd import SimulatedChip
from tests.support.simulated_machine import Clock

ROLE = "worker-gpu"
MANIFEST = json_encode(manifest_value())
READY = pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE
NOT_READY = pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_FALSE
SET_READY = "nvmlSystemSetConfComputeGpusReadyState"


@dataclass
class SimulatedAttester:
    """A SIMULATED processor that attests; a test may alter its evidence."""

    chip: SimulatedChip
    alter: Callable[[Evidence, bytes], Evidence] = lambda evidence, _: evidence

    def evidence(self, report_data: bytes) -> Evidence:
        return self.alter(self.chip.evidence(report_data), report_data)


@dataclass
class Setting:
    """A coordinator with manifest and collateral, and a machine that wants to join."""

    production: Production
    clock: Clock
    root: Path
    service: Path
    coordinator: Coordinator = field(init=False)
    relay: LocalCoordinator = field(init=False)
    attester: SimulatedAttester = field(init=False)
    nvml: FakeNvml = field(init=False)

    def __post_init__(self) -> None:
        self.start_coordinator(self.production.bundle())
        self.attester = SimulatedAttester(self.production.chip)
        self.nvml = FakeNvml([self.production.gpu])

    def start_coordinator(self, collateral: Bundle) -> None:
        """A new one that holds these items, as far as it takes them."""
        self.coordinator = Coordinator(
            SimulatedAttester(self.production.chip),
            binding=self.production.binding,
            now=self.clock,
            monotonic=self.clock,
        )
        self.coordinator.set_manifest(MANIFEST)
        self.coordinator.add_collateral(collateral.encode())
        self.relay = LocalCoordinator(self.coordinator)

    def node(self, *, models: tuple[str, ...] = ("large",), gpus: bool = True) -> Node:
        driver = RemoteGpus(self.service)
        attested = AttestedGpus(driver, ROLE, now=self.clock)
        return Node(
            ROLE,
            self.attester,
            self.relay,
            binding=sha256(MANIFEST).digest(),
            models=models,
            gpus=attested if gpus else None,
            now=self.clock,
            monotonic=self.clock,
        )

    def refusal(self, *, gpus: bool = True) -> ConfideError:
        """Why the machine may not join."""
        node = self.node(gpus=gpus)
        with pytest.raises(ConfideError) as caught:
            node.join()
        with pytest.raises(UnavailableError, match="not a member"):
            node.membership()
        return caught.value
