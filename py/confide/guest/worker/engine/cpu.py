"""vLLM's build for CPUs: how it is started, in its own Python 3.11, through `engine_server.py`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from confide.guest.worker.engine.arguments import ENVIRONMENT, server_arguments
from confide.guest.worker.engine.models_file import ServedModel

ENGINE = Path("/opt/engine")
PYTHON = ENGINE / "bin/python3.11"
SITE_PACKAGES = ENGINE / "site-packages"
SERVER = Path(__file__).with_name("server.py")

KV_CACHE_BYTES = 128 << 20
"""Bytes for attention keys and values. A fixed number saves vLLM its warm-up run."""


def command(model: ServedModel, *, socket: Path, gpus: Sequence[int]) -> list[str]:
    """The engine's arguments, the program first. `gpus` is empty here."""
    del gpus
    return [
        str(PYTHON),
        "-s",
        "-P",
        str(SERVER),
        *server_arguments(model, socket),
        f"--dtype={model.engine.dtype or 'float32'}",
        "--enforce-eager",  # no compiler in the image
        f"--kv-cache-memory-bytes={KV_CACHE_BYTES}",
    ]


def environment(gpus: Sequence[int]) -> Mapping[str, str]:
    """The engine's whole environment. `gpus` is empty here."""
    del gpus
    return {
        **ENVIRONMENT,
        "PYTHONPATH": str(SITE_PACKAGES),
        "VLLM_CACHE_ROOT": "/nonexistent",
        # vLLM compiles its ranking of logprobs despite --enforce-eager. The image has no
        # compiler, so one such request would end the engine.
        "TORCHDYNAMO_DISABLE": "1",
        # One process for the engine and its worker. The server has another one.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) - 1)),
    }
