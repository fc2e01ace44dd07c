"""vLLM's build for CUDA: how it is started, in its own Python 3.13, by vLLM's own server program.

It runs as vLLM usually does, with CUDA graphs and compiled models. Compilers are in the engine's
layer. Compiled code goes below /tmp, which belongs to the unit, is in memory, and empty at each
start.

Several GPUs: vLLM starts a process for each. They meet on the loopback interface and exchange data
by NCCL through the machine's memory, because a GPU in confidential mode does not reach another
one's memory. This has not been tried on hardware.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from confide.guest.worker.engine.arguments import ENVIRONMENT, server_arguments
from confide.guest.worker.engine.models_file import ServedModel

ENGINE = Path("/opt/engine")
PYTHON = ENGINE / "bin/python3.13"
SITE_PACKAGES = ENGINE / "site-packages"
DRIVER_LIBRARIES = Path("/opt/driver/lib")
CACHES = Path("/tmp")  # noqa: S108  the unit's private one


def command(model: ServedModel, *, socket: Path, gpus: Sequence[int]) -> list[str]:
    """The engine's arguments, the program first. `gpus` are those that the model is spread over."""
    options = model.engine
    return [
        str(PYTHON),
        "-s",
        "-P",
        "-m",
        "vllm.entrypoints.openai.api_server",
        *server_arguments(model, socket),
        f"--dtype={options.dtype or 'auto'}",
        f"--tensor-parallel-size={len(gpus)}",
        # vLLM's own all-reduce needs CUDA IPC, which NVIDIA does not support on these GPUs.
        "--disable-custom-all-reduce",
        f"--gpu-memory-utilization={options.memory_percent / 100:.2f}",
    ]


def environment(gpus: Sequence[int]) -> Mapping[str, str]:
    """The engine's whole environment. It sees the GPUs with these indexes and no others."""
    return {
        **ENVIRONMENT,
        # Triton calls gcc by name, and gcc its assembler and linker.
        "PATH": str(ENGINE / "bin"),
        "C_INCLUDE_PATH": f"{ENGINE}/include:{ENGINE}/include/x86_64-linux-gnu",
        "LIBRARY_PATH": str(ENGINE / "lib"),
        "LD_LIBRARY_PATH": f"{DRIVER_LIBRARIES}:{ENGINE}/lib",
        "PYTHONPATH": str(SITE_PACKAGES),
        # Otherwise Triton asks ldconfig, which no image has.
        "TRITON_LIBCUDA_PATH": str(DRIVER_LIBRARIES),
        "TRITON_CACHE_DIR": str(CACHES / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(CACHES / "inductor"),
        "VLLM_CACHE_ROOT": str(CACHES / "vllm"),
        "CUDA_CACHE_PATH": str(CACHES / "cuda"),
        # The indexes are NVML's, by place on the bus. CUDA's own order is by speed.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus)),
        # NCCL prefers other interfaces and InfiniBand, but no packet may leave the machine.
        "NCCL_SOCKET_IFNAME": "lo",
        "NCCL_IB_DISABLE": "1",
    }
