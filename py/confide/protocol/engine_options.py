"""The engine options that a manifest may set for a model: an allow-list.

Each is the option of vLLM's server of the same name (written with hyphens there), except that
`gpu_memory_percent` is `--gpu-memory-utilization` in hundredths: canonical JSON has no fractions.
They size the engine and say how a model speaks, so none can make it answer from elsewhere.

Every other option is refused, those of future versions too, because among them are ones that
- run code from the model or from a path (`--trust-remote-code`, `--tool-parser-plugin`,
  `--middleware`, `--worker-cls`), or read weights that are not safetensors (`--load-format`),
- say more than the answer (`--enable-log-requests`, `--otlp-traces-endpoint`, `--profiler-config`),
- reach other machines or files (`--kv-transfer-config`, `--allowed-local-media-path`),
- share prompts between clients (`--no-enable-prefix-caching` and its hash are the worker's to set),
- or serve something else than the manifest's model (`--hf-overrides`, `--enable-lora`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from confide.encoding.fields import Fields
from confide.errors import FormatError

if TYPE_CHECKING:  # the flake's builder of model disks has no cbor2, which canonical.py needs
    from confide.encoding.canonical import Json

MAX_TOKENS = 1 << 24
MAX_SEQUENCES = 1 << 16
MAX_GPUS = 16
DEFAULT_MEMORY_PERCENT = 90

NUMBERS = {
    "max_model_len": (1, MAX_TOKENS),
    "max_num_seqs": (1, MAX_SEQUENCES),
    "max_num_batched_tokens": (1, MAX_TOKENS),
    "tensor_parallel_size": (1, MAX_GPUS),
    "gpu_memory_percent": (10, 95),
}
"""Least and greatest value of each option that is a number."""

CHOICES = {
    "dtype": ("auto", "bfloat16", "float16", "float32"),
    "kv_cache_dtype": ("auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"),
    # The names that vLLM 0.19 has built in.
    "tool_call_parser": (
        "deepseek_v3", "deepseek_v31", "deepseek_v32", "ernie45", "functiongemma", "gemma4",
        "gigachat3", "glm45", "glm47", "granite", "granite-20b-fc", "granite4", "hermes",
        "hunyuan_a13b", "internlm", "jamba", "kimi_k2", "llama3_json", "llama4_json",
        "llama4_pythonic", "longcat", "minimax", "minimax_m2", "mistral", "olmo3", "openai",
        "phi4_mini_json", "pythonic", "qwen3_coder", "qwen3_xml", "seed_oss", "step3", "step3p5",
        "xlam",
    ),
    "reasoning_parser": (
        "deepseek_r1", "deepseek_v3", "ernie45", "gemma4", "glm45", "granite", "holo2",
        "hunyuan_a13b", "kimi_k2", "minimax_m2", "minimax_m2_append_think", "mistral",
        "nemotron_v3", "olmo3", "openai_gptoss", "qwen3", "seed_oss", "step3", "step3p5",
    ),
}  # fmt: skip
"""The values of each option that is a text."""


@dataclass(frozen=True)
class EngineOptions:
    """What a manifest sets of a model's engine; None where it leaves a default.

    Tokens of a context, sequences at once, tokens of a step; how many GPUs the model is spread
    over, and how many hundredths of each one's memory it takes; types of weights and of the cache
    of attention keys and values; how the model writes tool calls and reasoning. A worker without
    GPUs has no use for the two that are about them.
    """

    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    tensor_parallel_size: int | None = None
    gpu_memory_percent: int | None = None
    dtype: str | None = None
    kv_cache_dtype: str | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None

    @property
    def gpus(self) -> int:
        """GPUs that the model is spread over: 1 by default."""
        return self.tensor_parallel_size or 1

    @property
    def memory_percent(self) -> int:
        """Hundredths of the memory of each of its GPUs that the model takes: 90 by default."""
        return self.gpu_memory_percent or DEFAULT_MEMORY_PERCENT

    @classmethod
    def read(cls, fields: Fields) -> EngineOptions:
        """Read a map of options, each at most once, none required.

        Raises FormatError "engine-option" for one that is not allowed, "bad-field" for a value.
        """
        for name in fields.unread():
            if name not in NUMBERS and name not in CHOICES:
                raise FormatError(
                    "engine-option",
                    f"{fields.what} has an option that is not allowed: {name[:80]!a}",
                    expected=f"some of {', '.join([*NUMBERS, *CHOICES])}",
                )

        def number(name: str) -> int | None:
            low, high = NUMBERS[name]
            return fields.integer(name, minimum=low, maximum=high) if fields.has(name) else None

        def choice(name: str) -> str | None:
            return fields.text(name, one_of=CHOICES[name]) if fields.has(name) else None

        options = cls(
            max_model_len=number("max_model_len"),
            max_num_seqs=number("max_num_seqs"),
            max_num_batched_tokens=number("max_num_batched_tokens"),
            tensor_parallel_size=number("tensor_parallel_size"),
            gpu_memory_percent=number("gpu_memory_percent"),
            dtype=choice("dtype"),
            kv_cache_dtype=choice("kv_cache_dtype"),
            tool_call_parser=choice("tool_call_parser"),
            reasoning_parser=choice("reasoning_parser"),
        )
        fields.done()
        return options

    def to_json(self) -> dict[str, Json]:
        """The map: what is set, nothing of what is left to defaults."""
        return {name: value for name, value in asdict(self).items() if value is not None}


NO_OPTIONS = EngineOptions()
