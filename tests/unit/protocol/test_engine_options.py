"""Engine options: what the allow-list lets through, and what it says of the rest."""

from __future__ import annotations

import pytest

from confide.encoding.messages import read_value, to_map
from confide.errors import FormatError
from confide.protocol.engine_options import ENGINE_OPTIONS, OPTIONS, EngineOptions
from measure.kinds import Integer, Word

# What vLLM has that would run other code, serve another model, reach other machines or tell more.
FORBIDDEN = (
    "trust_remote_code", "tool_parser_plugin", "middleware", "worker_cls", "load_format",
    "enable_log_requests", "otlp_traces_endpoint", "kv_transfer_config", "hf_overrides",
    "allowed_local_media_path", "enable_prefix_caching", "no_enable_prefix_caching", "model",
    "prefix_caching_hash_algo", "enable_lora", "chat_template", "port", "host", "api_key",
    "served_model_name", "download_dir", "config", "gpu_memory_utilization", "", "max-model-len",
)  # fmt: skip

NUMBERS = {name: kind for name, kind in OPTIONS.items() if isinstance(kind, Integer)}
CHOICES = {name: list(kind.known) for name, kind in OPTIONS.items() if isinstance(kind, Word)}


def read(**options: object) -> EngineOptions:
    decoded: EngineOptions = read_value(ENGINE_OPTIONS, options, "the options")
    return decoded


def test_defaults() -> None:
    assert read() == EngineOptions()
    assert to_map(EngineOptions()) == {}
    assert (EngineOptions().gpus, EngineOptions().memory_percent) == (1, 90)


@pytest.mark.parametrize("name", NUMBERS)
def test_bounds_of_numbers(name: str) -> None:
    low, high = NUMBERS[name].minimum, NUMBERS[name].maximum
    for value in (low, high):
        assert to_map(read(**{name: value})) == {name: value}
    wrong: list[object] = [low - 1, high + 1, -high, str(low), float(low), True, None]
    for other in wrong:
        with pytest.raises(FormatError, match=name):
            read(**{name: other})


@pytest.mark.parametrize("name", CHOICES)
def test_choices(name: str) -> None:
    for value in CHOICES[name]:
        assert to_map(read(**{name: value})) == {name: value}
    first = CHOICES[name][0]
    wrong: list[object] = ["", first.upper(), f"{first} ", 1, None, [CHOICES[name]]]
    for other in wrong:
        with pytest.raises(FormatError, match=name):
            read(**{name: other})


@pytest.mark.parametrize("name", FORBIDDEN)
def test_any_other_option_is_one_error_that_names_it_and_the_allowed(name: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(**{"max_num_seqs": 4, name: True})
    assert caught.value.code == "engine-option"
    assert repr(name) in caught.value.message
    assert all(known in caught.value.expected for known in OPTIONS)
