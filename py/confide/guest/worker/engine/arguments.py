"""What both engines share: the arguments and the environment of vLLM's server.

Privacy: vLLM logs no request, answers only on a Unix socket, loads weights from safetensors only
(never pickles, never code from the model) and sends no usage reports. Its prefix cache finds a
block of tokens by a SHA-256 hash that begins with a salt, and the encryption proxy gives every
request one. Its caches of images use no salt, so a model for images is served for text only. (The
layer for GPUs also lacks cuDNN's convolutions, which models need for images.)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from confide.guest.worker.engine.models_file import ServedModel
from confide.protocol.engine_options import EngineOptions

ENVIRONMENT: Mapping[str, str] = {
    "HOME": "/nonexistent",
    "TMPDIR": "/tmp",  # noqa: S108  the unit's private one
    "VLLM_CONFIG_ROOT": "/nonexistent",
    "VLLM_PLUGINS": "",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
"""The whole environment, except for what each engine adds: nothing is inherited."""


def server_arguments(model: ServedModel, socket: Path) -> list[str]:
    """The options of vLLM's server for this model that both engines have."""
    return [
        f"--model={model.path}",
        f"--served-model-name={model.name}",
        f"--uds={socket}",
        "--load-format=safetensors",
        "--language-model-only",
        "--enable-prefix-caching",
        "--prefix-caching-hash-algo=sha256",
        "--enable-prompt-tokens-details",
        "--no-enable-log-requests",
        "--disable-log-stats",
        "--disable-uvicorn-access-log",
        "--uvicorn-log-level=warning",
        "--disable-fastapi-docs",
        *_options(model.engine),
    ]


def _options(options: EngineOptions) -> list[str]:
    """The manifest's options, without those about GPUs and the type of the weights."""
    named = {
        "max-model-len": options.max_model_len,
        "max-num-seqs": options.max_num_seqs,
        "max-num-batched-tokens": options.max_num_batched_tokens,
        "kv-cache-dtype": options.kv_cache_dtype,
        "tool-call-parser": options.tool_call_parser,
        "reasoning-parser": options.reasoning_parser,
    }
    given = [f"--{name}={value}" for name, value in named.items() if value is not None]
    # vLLM parses tool calls only if the model may choose tools.
    return [*given, "--enable-auto-tool-choice"] if options.tool_call_parser else given
