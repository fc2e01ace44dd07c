"""The SIMULATED reference values and answers for the simulated GPU."""

from __future__ import annotations

import pytest

from confide.verify.nvidia.collateral import GpuCollateral
from tests.support.simulated_gpu import SimulatedGpu, SimulatedNvidia


@pytest.fixture(scope="session")
def collateral(nvidia: SimulatedNvidia, gpu: SimulatedGpu) -> GpuCollateral:
    """Everything that a good verdict on `gpu` needs."""
    return nvidia.collateral(gpu)
