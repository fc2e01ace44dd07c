"""One SIMULATED NVIDIA with a GPU, its reference values and answers; keys are slow to make."""

from __future__ import annotations

import pytest

from confide.verify.nvidia.collateral import GpuCollateral
from tests.support.simulated_gpu import SimulatedGpu, SimulatedNvidia


@pytest.fixture(scope="session")
def nvidia() -> SimulatedNvidia:
    return SimulatedNvidia()


@pytest.fixture(scope="session")
def gpu(nvidia: SimulatedNvidia) -> SimulatedGpu:
    return nvidia.gpu()


@pytest.fixture(scope="session")
def collateral(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> GpuCollateral:
    """Everything that a good verdict on `gpu` needs."""
    return nvidia.collateral(gpu)
