"""Start the engine: `python -m confide.worker.engine`. Becomes vLLM, in its own Python.

Reads what the disk mounter opened (MODELS_FILE), then executes `engine_server.py` with the engine's
interpreter: same process, so whoever supervises this program supervises the engine. Readiness is
GET /health on HOST:PORT.

Privacy: vLLM logs no request, answers only on loopback, loads weights from safetensors only (never
pickles, never code from the model), shares no prefix cache between requests (its timing would tell
one user what another one sent) and reports to nobody.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from confide.errors import ConfideError, ConfigError
from confide.worker.models_file import MODELS_FILE, ServedModel, parse_models

ENGINE = Path("/opt/engine")
PYTHON = ENGINE / "bin/python3.11"
SITE_PACKAGES = ENGINE / "site-packages"
SERVER = Path(__file__).with_name("engine_server.py")

HOST = "127.0.0.1"
PORT = 8100

KV_CACHE_BYTES = 128 << 20
"""Bytes for attention keys and values. Fixed, so that vLLM skips its warm-up run to find out."""


def only_model(models: Sequence[ServedModel]) -> ServedModel:
    """The one model there is. Raises ConfigError if there is none, or another one."""
    if len(models) != 1:
        raise ConfigError(
            "one-model",
            "an engine serves one model",
            expected="1 model on the config disk",
            seen=str(len(models)),
            next="start one worker for each model",
        )
    return models[0]


def command(model: ServedModel) -> list[str]:
    """The engine's arguments, the program first."""
    return [
        str(PYTHON),
        "-s",
        "-P",
        str(SERVER),
        f"--model={model.path}",
        f"--served-model-name={model.name}",
        f"--host={HOST}",
        f"--port={PORT}",
        "--load-format=safetensors",
        "--dtype=float32",
        "--enforce-eager",  # no compiler in the image
        f"--kv-cache-memory-bytes={KV_CACHE_BYTES}",
        "--no-enable-prefix-caching",
        "--no-enable-log-requests",
        "--disable-log-stats",
        "--disable-uvicorn-access-log",
        "--uvicorn-log-level=warning",
        "--disable-fastapi-docs",
    ]


def environment() -> Mapping[str, str]:
    """The engine's whole environment: nothing is inherited."""
    return {
        "PYTHONPATH": str(SITE_PACKAGES),
        "HOME": "/nonexistent",
        "TMPDIR": "/tmp",  # noqa: S108  the unit's private one
        "VLLM_CACHE_ROOT": "/nonexistent",
        "VLLM_CONFIG_ROOT": "/nonexistent",
        # One process for the engine and its worker; the server is another one in any case.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) - 1)),
        "VLLM_PLUGINS": "",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "VLLM_HOST_IP": HOST,
        "GLOO_SOCKET_IFNAME": "lo",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }


def main() -> int:
    """Become the engine; 1 with a printed error if that cannot be."""
    try:
        _, models = parse_models(MODELS_FILE.read_bytes())
        arguments = command(only_model(models))
        os.execve(arguments[0], arguments, environment())  # noqa: S606  no shell is wanted
    except (ConfideError, OSError) as error:
        print(f"confide-engine: {error}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
