"""A coordinator, a node and a GPU service for tests of joining under a production manifest.

SIMULATED SEV-SNP processor, GPU and vendors, a FAKE driver; coordinator, node, the GPU service on
its socket and the verifiers are the real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
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
from confide.protocol.coordinator import JoinReply, JoinRequest, MeshReply
from confide.protocol.evidence import Evidence
from tests.support.fake_nvml import FakeNvml
from tests.support.production import Production, manifest_value
from tests.support.simulated_amd import SimulatedChip
from tests.support.simulated_machine import Clock

ROLE = "worker-gpu"
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
class Relay:
    """A JoinClient without a network; a test may alter what passes through it."""

    coordinator: Coordinator
    on_request: Callable[[JoinRequest], JoinRequest] = lambda request: request
    on_collateral: Callable[[Bundle], Bundle] = lambda bundle: bundle

    def mesh(self) -> MeshReply:
        return self.coordinator.mesh()

    def collateral(self) -> Bundle:
        return self.on_collateral(Bundle.parse(self.coordinator.collateral()))

    def challenge(self) -> bytes:
        return self.coordinator.challenge()

    def join(self, request: JoinRequest) -> JoinReply:
        return self.coordinator.join(self.on_request(request))


@dataclass
class Setting:
    """A coordinator with manifest and collateral, and a machine that wants to join."""

    production: Production
    clock: Clock
    root: Path
    service: Path
    coordinator: Coordinator = field(init=False)
    relay: Relay = field(init=False)
    attester: SimulatedAttester = field(init=False)
    nvml: FakeNvml = field(init=False)

    def __post_init__(self) -> None:
        attester = SimulatedAttester(self.production.chip)
        binding = self.production.binding
        self.coordinator = Coordinator(attester, binding=binding, now=self.clock)
        self.coordinator.set_manifest(json_encode(manifest_value()))
        self.coordinator.set_collateral(self.production.bundle().encode())
        self.relay = Relay(self.coordinator)
        self.attester = SimulatedAttester(self.production.chip)
        self.nvml = FakeNvml([self.production.gpu])

    def node(self, *, models: tuple[str, ...] = ("large",), gpus: bool = True) -> Node:
        driver = RemoteGpus(self.service)
        attested = AttestedGpus(driver, ROLE, self.relay.collateral, now=self.clock)
        return Node(
            ROLE,
            self.attester,
            self.relay,
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
