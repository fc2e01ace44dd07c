"""How the engine for GPUs is started: with which program, arguments and environment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from confide.guest.worker.engine import gpu
from confide.guest.worker.engine.arguments import server_arguments
from confide.guest.worker.engine.models_file import ServedModel
from confide.protocol.engine_options import EngineOptions

SOCKET = Path("/run/confide-engine/2/run/http.sock")
TINY = ServedModel("tiny", Path("/run/confide/models/2"), bytes(32), ("chat",))
ON_TWO_GPUS = EngineOptions(
    tensor_parallel_size=2, gpu_memory_percent=45, dtype="bfloat16", reasoning_parser="qwen3"
)


def command(options: EngineOptions | None = None, gpus: tuple[int, ...] = (0,)) -> list[str]:
    model = replace(TINY, engine=options or EngineOptions())
    return gpu.command(model, socket=SOCKET, gpus=gpus)


def test_the_program_is_vllms_own_server() -> None:
    assert command()[:5] == [
        "/opt/engine/bin/python3.13",
        "-s",
        "-P",
        "-m",
        "vllm.entrypoints.openai.api_server",
    ]


def test_whatever_both_engines_promise() -> None:
    model = replace(TINY, engine=ON_TWO_GPUS)
    assert set(server_arguments(model, SOCKET)) < set(command(ON_TWO_GPUS, gpus=(2, 3)))


@pytest.mark.parametrize(
    "argument",
    [
        "--language-model-only",
        "--disable-custom-all-reduce",
        "--tensor-parallel-size=1",
        "--gpu-memory-utilization=0.90",
        "--dtype=auto",
    ],
)
def test_argument_is_given(argument: str) -> None:
    assert argument in command()


def test_options_of_the_manifest_that_are_about_gpus() -> None:
    assert set(command(ON_TWO_GPUS, gpus=(2, 3))) - set(command()) == {
        "--tensor-parallel-size=2",
        "--gpu-memory-utilization=0.45",
        "--dtype=bfloat16",
        "--reasoning-parser=qwen3",
    }


def test_no_option_is_given_twice() -> None:
    names = [argument.partition("=")[0] for argument in command(ON_TWO_GPUS, gpus=(2, 3))]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("word", ["--enforce-eager", "--trust-remote-code", "ray"])
def test_what_is_never_given(word: str) -> None:
    assert word not in command(ON_TWO_GPUS, gpus=(2, 3))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VLLM_NO_USAGE_STATS", "1"),
        ("HF_HUB_OFFLINE", "1"),
        ("VLLM_HOST_IP", "127.0.0.1"),
        ("NCCL_SOCKET_IFNAME", "lo"),
        ("GLOO_SOCKET_IFNAME", "lo"),
        ("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
        ("CUDA_VISIBLE_DEVICES", "2,3"),
        ("PATH", "/opt/engine/bin"),
        ("LD_LIBRARY_PATH", "/opt/driver/lib:/opt/engine/lib"),
    ],
)
def test_environment(name: str, value: str) -> None:
    assert gpu.environment((2, 3))[name] == value


def test_caches_are_in_memory() -> None:
    environment = gpu.environment((0,))
    caches = [name for name in environment if "CACHE" in name]
    assert len(caches) == 4
    assert all(environment[name].startswith("/tmp/") for name in caches)


def test_nothing_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_TRACE_FUNCTION", "1")
    assert "VLLM_TRACE_FUNCTION" not in gpu.environment((0,))
