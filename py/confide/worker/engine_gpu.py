"""vLLM's build for CUDA: how it is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from confide.worker.engine_arguments import ENVIRONMENT, server_arguments
from confide.worker.models_file import ServedModel

ENGINE = Path("/opt/engine")
PYTHON = ENGINE / "bin/python3.13"
SITE_PACKAGES = ENGINE / "site-packages"


def command(model: ServedModel, *, port: int, gpus: Sequence[int]) -> list[str]:
    """The engine's arguments, the program first. `gpus` are as many as the model is spread over."""
    options = model.engine
    return [
        str(PYTHON),
        "-s",
        "-P",
        "-m",
        "vllm.entrypoints.openai.api_server",
        *server_arguments(model, port),
        f"--dtype={options.dtype or 'auto'}",
        f"--tensor-parallel-size={len(gpus)}",
        f"--gpu-memory-utilization={options.memory_percent / 100:.2f}",
    ]


def environment(gpus: Sequence[int]) -> Mapping[str, str]:
    """The engine's whole environment. It sees the GPUs with these indexes and no others."""
    return {
        **ENVIRONMENT,
        "PYTHONPATH": str(SITE_PACKAGES),
        "LD_LIBRARY_PATH": "/opt/driver/lib",
        # The indexes are NVML's, which counts by place; CUDA counts by speed unless it is told so.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus)),
    }
