"""How the engine for CPUs is started: with which program, arguments and environment."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from confide.guest.worker.engine import cpu
from confide.guest.worker.engine.models_file import ServedModel
from confide.protocol.engine_options import EngineOptions

SOCKET = Path("/run/confide-engine/2/run/http.sock")
TINY = ServedModel("tiny", Path("/run/confide/models/2"), bytes(32), ("chat",))


def command(options: EngineOptions | None = None) -> list[str]:
    return cpu.command(
        replace(TINY, engine=options or EngineOptions()), socket=SOCKET, gpus=()
    )  # fmt: skip


def test_the_program() -> None:
    program, *arguments = command()
    assert program == "/opt/engine/bin/python3.11"
    assert arguments[:2] == ["-s", "-P"]
    # It must be readable by the engine's own, older Python.
    ast.parse(Path(arguments[2]).read_text(), feature_version=(3, 11))


# Each of these keeps a promise about prompts or about what code runs.
@pytest.mark.parametrize(
    "argument",
    [
        "--model=/run/confide/models/2",
        "--served-model-name=tiny",
        "--uds=/run/confide-engine/2/run/http.sock",
        "--load-format=safetensors",
        "--language-model-only",
        "--enable-prefix-caching",
        "--prefix-caching-hash-algo=sha256",
        "--no-enable-log-requests",
        "--disable-uvicorn-access-log",
        "--enforce-eager",
        "--dtype=float32",
    ],
)
def test_argument_is_given(argument: str) -> None:
    assert argument in command()


def test_options_of_the_manifest() -> None:
    options = EngineOptions(
        max_model_len=1024,
        max_num_seqs=4,
        max_num_batched_tokens=512,
        tensor_parallel_size=2,
        gpu_memory_percent=50,
        dtype="bfloat16",
        kv_cache_dtype="auto",
        tool_call_parser="hermes",
        reasoning_parser="qwen3",
    )
    assert set(command(options)) - set(command()) == {
        "--max-model-len=1024",
        "--max-num-seqs=4",
        "--max-num-batched-tokens=512",
        "--dtype=bfloat16",
        "--kv-cache-dtype=auto",
        "--tool-call-parser=hermes",
        "--enable-auto-tool-choice",
        "--reasoning-parser=qwen3",
    }
    assert not any("parallel" in word or "gpu" in word for word in command(options))


def test_nothing_is_compiled() -> None:
    # Without a compiler in the image, one request with logprobs would end the engine.
    assert cpu.environment(())["TORCHDYNAMO_DISABLE"] == "1"


def test_code_of_a_model_is_never_trusted() -> None:
    assert not any("trust" in argument for argument in command())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VLLM_NO_USAGE_STATS", "1"),
        ("DO_NOT_TRACK", "1"),
        ("HF_HUB_OFFLINE", "1"),
        ("TRANSFORMERS_OFFLINE", "1"),
        ("VLLM_PLUGINS", ""),
        ("VLLM_LOGGING_LEVEL", "WARNING"),
        ("PYTHONPATH", "/opt/engine/site-packages"),
    ],
)
def test_environment_says(name: str, value: str) -> None:
    assert cpu.environment(())[name] == value


def test_why_it_did_not_start_is_said_and_nothing_else() -> None:
    """Here vLLM cannot be imported; what a library prints on its own goes nowhere."""
    server = [sys.executable, str(cpu.SERVER), "--model=/nonexistent"]
    ended = subprocess.run(server, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith("vLLM does not start: ModuleNotFoundError: ")
    assert not ended.stdout
