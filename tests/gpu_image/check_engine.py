"""What can be known of the CUDA engine without a GPU, in its own Python, on its own layers.

nix/check_engine.py runs this in a root that has the layers where a machine has them, in the
environment that the engine gets there. Standard input: JSON, {"commands": [[argument, ...], ...],
"parsers": {"tool_call_parser": [name, ...], "reasoning_parser": [...]}}. Prints a line for each
thing that holds; ends with a traceback at the first that does not.

Simulated: the GPU. vLLM is told that there is an H100, because much of it asks when it is imported.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import triton
import triton.language as tl
import vllm.platforms
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import driver
from triton.compiler import ASTSource
from vllm.platforms.cuda import NonNvmlCudaPlatform
from vllm.platforms.interface import DeviceCapability

HOPPER = 90
# Everything that is compiled code, what a worker's process imports, and the models most in use.
MODULES = [
    "vllm._C",
    "vllm._C_stable_libtorch",
    "vllm._moe_C",
    "vllm._flashmla_C",
    "vllm.cumem_allocator",
    "vllm.vllm_flash_attn._vllm_fa2_C",
    "vllm.vllm_flash_attn._vllm_fa3_C",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.worker.gpu_worker",
    "vllm.v1.worker.gpu_model_runner",
    "vllm.v1.attention.backends.flash_attn",
    "vllm.v1.attention.backends.triton_attn",
    "vllm.v1.structured_output.backend_xgrammar",
    "vllm.v1.structured_output.backend_guidance",
    "vllm.distributed.device_communicators.pynccl",
    "vllm.distributed.device_communicators.symm_mem",
    "vllm.compilation.backends",
    "torch._inductor.compile_fx",
    "torch._inductor.standalone_compile",
    "vllm.model_executor.models.llama",
    "vllm.model_executor.models.qwen3",
    "vllm.model_executor.models.qwen3_moe",
    "vllm.model_executor.models.qwen3_next",
    "vllm.model_executor.models.deepseek_v2",
    "vllm.model_executor.models.gpt_oss",
    "vllm.model_executor.models.gemma3",
    "vllm.model_executor.models.mistral",
    "vllm.model_executor.models.mllama4",
    "vllm.model_executor.models.glm4_moe",
]
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 1000,
    "torch_dtype": "bfloat16",
}


class SimulatedHopper(NonNvmlCudaPlatform):  # type: ignore[misc]
    """An H100 as vLLM sees it before it uses one."""

    @classmethod
    def get_device_capability(cls, device_id: int = 0) -> DeviceCapability:
        """Compute capability 9.0."""
        return DeviceCapability(9, 0)

    @classmethod
    def get_device_name(cls, device_id: int = 0) -> str:
        """As NVML would call it."""
        return "NVIDIA H100 80GB HBM3"

    @classmethod
    def get_device_total_memory(cls, device_id: int = 0) -> int:
        """Bytes."""
        return 80 << 30


@triton.jit  # type: ignore[untyped-decorator]
def add(left, right, total, count, BLOCK: tl.constexpr) -> None:  # type: ignore[no-untyped-def]
    """A kernel, to see one compiled."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    tl.store(
        total + at, tl.load(left + at, mask=inside) + tl.load(right + at, mask=inside), mask=inside
    )


def check_modules() -> None:
    """All of it can be imported, so no library is missing."""
    for name in MODULES:
        importlib.import_module(name)


def check_arguments(commands: list[list[str]]) -> None:
    """VLLM's own parser takes our arguments, and each says there what it says here."""
    from vllm.entrypoints.openai.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    for command in commands:
        arguments = command[command.index("-m") + 2 :]
        parsed = parser.parse_args(arguments)
        validate_parsed_serve_args(parsed)
        for argument in arguments:
            name, given, value = argument.removeprefix("--").partition("=")
            negated = not given and name.startswith("no-")
            seen = getattr(parsed, name.removeprefix("no-").replace("-", "_"))
            wanted = value if given else str(not negated)
            assert str(seen) == wanted or seen == [wanted] or float(seen) == float(wanted), argument


def check_configuration(command: list[str]) -> None:
    """What vLLM makes of the arguments for one GPU: its full speed, and the salted prefix cache."""
    import vllm.model_executor.models.registry as registry
    from vllm.config import CompilationMode, CUDAGraphMode
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.openai.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    # Here, and not in a fresh interpreter, which would know nothing of the simulated GPU.
    registry._LazyRegisteredModel.inspect_model_cls = lambda model: (
        registry._ModelInfo.from_model_cls(model.load_model_cls())
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(LLAMA))
        arguments = make_arg_parser(FlexibleArgumentParser()).parse_args(
            [*command[command.index("-m") + 2 :], f"--model={folder}"]
        )
        config = AsyncEngineArgs.from_cli_args(arguments).create_engine_config()
    assert config.cache_config.enable_prefix_caching, "prefix cache"
    assert config.cache_config.prefix_caching_hash_algo == "sha256", "its hash"
    assert config.scheduler_config.async_scheduling, "asynchronous scheduling"
    assert config.compilation_config.mode == CompilationMode.VLLM_COMPILE, "torch.compile"
    assert config.compilation_config.cudagraph_mode == CUDAGraphMode.FULL_AND_PIECEWISE, "graphs"
    assert config.parallel_config.disable_custom_all_reduce, "CUDA IPC"


def check_parsers(names: dict[str, list[str]]) -> None:
    """Every parser that a manifest may name is there, and can be imported."""
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    for name in names["tool_call_parser"]:
        ToolParserManager.get_tool_parser(name)
    for name in names["reasoning_parser"]:
        ReasoningParserManager.get_reasoning_parser(name)


def check_compiler() -> None:
    """Triton compiles a kernel for the GPU, and with gcc its launcher and what loads both."""
    signature = {"left": "*fp32", "right": "*fp32", "total": "*fp32", "count": "i32"}
    source = ASTSource(add, {**signature, "BLOCK": "constexpr"}, {"BLOCK": 128})
    kernel = triton.compile(source, target=GPUTarget("cuda", HOPPER, 32))
    assert kernel.asm["cubin"].startswith(b"\x7fELF"), "no machine code"
    driver.CudaUtils()
    launcher = driver.make_launcher({}, dict(enumerate(signature.values())), None)
    compiled = driver.compile_module_from_src(
        src=launcher,
        name="__triton_launcher",
        library_dirs=driver.library_dirs(),
        include_dirs=driver.include_dirs,
        libraries=driver.libraries,
    )
    assert callable(compiled.launch), "no launcher"


def check_salt() -> None:
    """Equal prompts share cached blocks if their salts are equal, and none if they differ."""
    from vllm.sampling_params import SamplingParams
    from vllm.utils.hashing import get_hash_fn_by_name
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
    from vllm.v1.request import Request

    sha256 = get_hash_fn_by_name("sha256")
    init_none_hash(sha256)

    def blocks(salt: str) -> list[Any]:
        hashes: list[Any] = Request(
            request_id=salt,
            prompt_token_ids=list(range(64)),
            sampling_params=SamplingParams(max_tokens=1),
            pooling_params=None,
            cache_salt=salt,
            block_hasher=get_request_block_hasher(16, sha256),
        ).block_hashes
        return hashes

    assert len(blocks("one")) == 4 and blocks("one") == blocks("one"), "equal salts"
    assert not set(blocks("one")) & set(blocks("two")), "different salts"


def check_server(command: list[str]) -> None:
    """VLLM's HTTP server answers, with the versions of the web libraries that the layer has."""
    from fastapi.testclient import TestClient
    from vllm.entrypoints.openai.api_server import build_app
    from vllm.entrypoints.openai.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    app = build_app(parser.parse_args(command[command.index("-m") + 2 :]), ("generate",))
    app.state.engine_client = None
    client = TestClient(app)
    assert client.get("/health").status_code == 200
    assert client.get("/docs").status_code == 404
    assert client.post("/v1/chat/completions", json={}).status_code == 400


def main() -> None:
    """Check everything."""
    vllm.platforms._current_platform = SimulatedHopper()
    driver.CudaDriver.is_active = staticmethod(lambda: True)
    wanted = json.load(sys.stdin)
    checks: dict[str, Callable[[], None]] = {
        "modules": check_modules,
        "arguments": lambda: check_arguments(wanted["commands"]),
        "configuration": lambda: check_configuration(wanted["commands"][0]),
        "parsers": lambda: check_parsers(wanted["parsers"]),
        "compiler": check_compiler,
        "cache salt": check_salt,
        "server": lambda: check_server(wanted["commands"][0]),
    }
    for what, check in checks.items():
        check()
        print(f"{what}: as it should be", flush=True)


if __name__ == "__main__":
    main()
