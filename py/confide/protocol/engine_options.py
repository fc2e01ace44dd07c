"""The engine options that a manifest may set for a model: an allow-list.

Each is the option of vLLM's server of the same name (written with hyphens there), except that
`gpu_memory_percent` is `--gpu-memory-utilization` in hundredths: canonical JSON has no fractions.
They size the engine and name the format of its answers. No option lets another machine answer.

Every other option is refused, those of future versions too, because among them are ones that
- run code from the model or from a path (`--trust-remote-code`, `--tool-parser-plugin`,
  `--middleware`, `--worker-cls`), or read weights that are not safetensors (`--load-format`),
- say more than the answer (`--enable-log-requests`, `--otlp-traces-endpoint`, `--profiler-config`),
- reach other machines or files (`--kv-transfer-config`, `--allowed-local-media-path`),
- share prompts between clients (`--no-enable-prefix-caching` and its hash are the worker's to set),
- or serve something else than the manifest's model (`--hf-overrides`, `--enable-lora`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from confide.errors import FormatError
from measure.declare import Nested, kinds_of
from measure.kinds import Integer, Kind, Optional, Word

MAX_TOKENS = 1 << 24
MAX_SEQUENCES = 1 << 16
MAX_GPUS = 16
DEFAULT_MEMORY_PERCENT = 90

DTYPES = ("auto", "bfloat16", "float16", "float32")
KV_CACHE_DTYPES = ("auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2")
# The names that vLLM 0.19 has built in.
TOOL_CALL_PARSERS = (
    "deepseek_v3", "deepseek_v31", "deepseek_v32", "ernie45", "functiongemma", "gemma4",
    "gigachat3", "glm45", "glm47", "granite", "granite-20b-fc", "granite4", "hermes",
    "hunyuan_a13b", "internlm", "jamba", "kimi_k2", "llama3_json", "llama4_json",
    "llama4_pythonic", "longcat", "minimax", "minimax_m2", "mistral", "olmo3", "openai",
    "phi4_mini_json", "pythonic", "qwen3_coder", "qwen3_xml", "seed_oss", "step3", "step3p5",
    "xlam",
)  # fmt: skip
REASONING_PARSERS = (
    "deepseek_r1", "deepseek_v3", "ernie45", "gemma4", "glm45", "granite", "holo2",
    "hunyuan_a13b", "kimi_k2", "minimax_m2", "minimax_m2_append_think", "mistral",
    "nemotron_v3", "olmo3", "openai_gptoss", "qwen3", "seed_oss", "step3", "step3p5",
)  # fmt: skip


@dataclass(frozen=True)
class EngineOptions:
    """Options of the engine that serves the model; no others are allowed, and none is required.

    None stands for the engine's default. Tokens of a context, sequences at once, tokens of a step;
    how many GPUs the model is spread over, and how many hundredths of each one's memory it takes;
    types of weights and of the cache of attention keys and values; how the model writes tool calls
    and reasoning. A worker without GPUs ignores the two options about GPUs.
    """

    max_model_len: Annotated[int | None, Optional(Integer(1, MAX_TOKENS))] = None
    max_num_seqs: Annotated[int | None, Optional(Integer(1, MAX_SEQUENCES))] = None
    max_num_batched_tokens: Annotated[int | None, Optional(Integer(1, MAX_TOKENS))] = None
    tensor_parallel_size: Annotated[int | None, Optional(Integer(1, MAX_GPUS))] = None
    gpu_memory_percent: Annotated[int | None, Optional(Integer(10, 95))] = None
    dtype: Annotated[str | None, Optional(Word(DTYPES))] = None
    kv_cache_dtype: Annotated[str | None, Optional(Word(KV_CACHE_DTYPES))] = None
    tool_call_parser: Annotated[str | None, Optional(Word(TOOL_CALL_PARSERS))] = None
    reasoning_parser: Annotated[str | None, Optional(Word(REASONING_PARSERS))] = None

    @property
    def gpus(self) -> int:
        """GPUs that the model is spread over: 1 by default."""
        return self.tensor_parallel_size or 1

    @property
    def memory_percent(self) -> int:
        """Hundredths of the memory of each of its GPUs that the model takes: 90 by default."""
        return self.gpu_memory_percent or DEFAULT_MEMORY_PERCENT


NO_OPTIONS = EngineOptions()

OPTIONS: dict[str, Kind] = {
    name: kind.kind for name, kind in kinds_of(EngineOptions).items() if isinstance(kind, Optional)
}
"""The kind of each option, by its name: an `Integer` or a `Word`."""


class _EngineOptionsKind(Nested):
    """A map of options, each at most once; one that is not allowed has an error of its own."""

    def decode(self, value: object, what: str) -> EngineOptions:
        """Raises FormatError `engine-option` for an option that is not allowed."""
        for name in value if isinstance(value, dict) else ():
            if name not in OPTIONS:
                raise FormatError(
                    "engine-option",
                    f"{what} has an option that is not allowed: {str(name)[:80]!a}",
                    expected=f"some of {', '.join(OPTIONS)}",
                )
        options: EngineOptions = super().decode(value, what)
        return options


ENGINE_OPTIONS = _EngineOptionsKind(EngineOptions)
"""The kind of a field that holds engine options."""
