"""Fields that chat and completion requests share: sampling, structure, streams, vLLM's own.

A field that only one of the two engines knows is refused, unless OpenAI's API documents it: then
the other engine ignores it.
"""

from __future__ import annotations

from typing import Any

from confide.protocol.routes.fields import Dropped, Fields, Object, Passed, Refused, Tagged
from confide.protocol.routes.kinds import (
    Either,
    Flag,
    ListOf,
    MapOf,
    Number,
    Text,
    Whole,
    Word,
    bad,
)
from confide.protocol.routes.schemas import JsonSchema, Regex

MAX_TOKENS = 1 << 24
"""Tokens of one sequence: no engine has more."""

MAX_CHOICES = 16_384
"""Characters of all choices of a request."""

MAX_ANSWERS = 128
"""Sequences of one request, `n` for each of its prompts. The engine takes them before
those of later requests."""

MAX_BAD_WORDS = 128
"""Words that one request forbids, in all its sequences: the engine looks at each for each token."""

_TOKEN_ID = Whole(0, 2**31 - 1)
_TOKENS = Passed(Whole(0, MAX_TOKENS))
_FLAG = Passed(Flag())
PROMPT_LOGPROBS = "a long prompt's would take all of the GPU's memory, and end the engine"
_ONE_ENGINE = Refused("only one of the engines knows it")
_NO_MEDIA = Refused("the engines take text only")
_OTHER_MACHINES = Refused("it is for engines that share their caches with other machines")


def _one_constraint(made: dict[str, Any]) -> None:
    """Exactly one constraint, as the engine asks: with two it shows them in its error."""
    given = [name for name in ("json", "regex", "choice", "json_object") if name in made]
    if len(given) != 1:
        raise bad("one of json, regex, choice, json_object", f"{len(given)} of them")


def _choices_are_short(made: dict[str, Any]) -> None:
    """The engine needs seconds for more."""
    if sum(map(len, made.get("choice", ()))) > MAX_CHOICES:
        raise bad(f"at most {MAX_CHOICES} characters in all", "more").within("choice")


def _stream_options_belong_to_a_stream(made: dict[str, Any]) -> None:
    """As the engines do."""
    if "stream_options" in made and made.get("stream") is not True:
        raise bad("stream true beside it", "no stream").within("stream_options")


def _no_stop_token_ids_below_min_tokens(made: dict[str, Any]) -> None:
    """The engine for GPUs does not compare them with the vocabulary before it writes there: one too
    large ends it for all (vllm-project/vllm#44968), or changes another request's answer.
    """
    if made.get("min_tokens") and made.get("stop_token_ids"):
        raise bad("no min_tokens beside it", "both").within("stop_token_ids")


def _answers_are_few(made: dict[str, Any]) -> None:
    prompts = made.get("prompt", "")
    many = isinstance(prompts, list) and not isinstance(prompts[0], int)
    answers = made.get("n", 1) * (len(prompts) if many else 1)
    if answers > MAX_ANSWERS:
        raise bad(f"at most {MAX_ANSWERS} answers, n for each prompt", str(answers)).within("n")
    if (words := answers * len(made.get("bad_words", ()))) > MAX_BAD_WORDS:
        expected = f"at most {MAX_BAD_WORDS} words, as many for each answer"
        raise bad(expected, str(words)).within("bad_words")


RULES = (
    _stream_options_belong_to_a_stream,
    _no_stop_token_ids_below_min_tokens,
    _answers_are_few,
)
"""What both routes check of a request as a whole."""


_JSON_SCHEMA = Object(
    {
        "name": Passed(Text(64, "[A-Za-z0-9_.-]*", minimum=1), required=True),
        "description": Passed(Text()),
        "schema": Passed(JsonSchema()),
        "strict": _FLAG,
    }
)


def _format(kind: str, fields: Fields) -> Object:
    return Object({"type": Passed(Word(kind), required=True), **fields})


_RESPONSE_FORMAT = Tagged(
    "type",
    {
        "text": _format("text", {}),
        "json_object": _format("json_object", {}),
        "json_schema": _format("json_schema", {"json_schema": Passed(_JSON_SCHEMA, required=True)}),
    },
    {"structural_tag": "grammars beyond JSON Schema are not for users", "grammar": "the same"},
)

STRUCTURED_OUTPUTS = Object(
    {
        "json": Passed(JsonSchema()),
        "regex": Passed(Regex()),
        "choice": Passed(ListOf(Text(1024, minimum=1), 256, minimum=1)),
        "json_object": Passed(Flag(only=True)),
        "disable_any_whitespace": _FLAG,
        "disable_additional_properties": _FLAG,
        "grammar": Refused("grammars beyond JSON Schema are not for users"),
        "structural_tag": Refused("grammars beyond JSON Schema are not for users"),
        "whitespace_pattern": Refused("it becomes a part of the engine's automaton"),
    },
    rules=(_one_constraint, _choices_are_short),
)

STREAM_OPTIONS = Object(
    {
        "include_usage": _FLAG,
        "continuous_usage_stats": _FLAG,
        "include_obfuscation": Dropped(Flag()),
    }
)

SHARED: Fields = {
    "model": Passed(Text(64, minimum=1), required=True),
    "stream": _FLAG,
    "stream_options": Passed(STREAM_OPTIONS),
    # The worker replaces it; cache_salt.py of the worker has its rules.
    "cache_salt": Passed(Text(1024, minimum=1)),
    # How the next token is chosen.
    "frequency_penalty": Passed(Number(-2, 2)),
    "presence_penalty": Passed(Number(-2, 2)),
    "repetition_penalty": Passed(Number(0, 10)),
    "temperature": Passed(Number(0, 100)),
    "top_p": Passed(Number(0, 1)),
    "top_k": Passed(Whole(-1, 2**31 - 1)),
    "min_p": Passed(Number(0, 1)),
    "seed": Passed(Whole(-(2**63), 2**63 - 1)),
    "logit_bias": Passed(MapOf(Text(10, "[0-9]*", minimum=1), Number(-100, 100), 1024)),
    "allowed_token_ids": Passed(ListOf(_TOKEN_ID, 4096, minimum=1)),
    "bad_words": Passed(ListOf(Text(256, minimum=1), MAX_BAD_WORDS)),
    "n": Passed(Whole(1, MAX_ANSWERS)),
    # Where the answer ends.
    "max_tokens": _TOKENS,
    "min_tokens": _TOKENS,
    "stop": Passed(Either(Text(1024, minimum=1), ListOf(Text(1024, minimum=1), maximum=16))),
    "stop_token_ids": Passed(ListOf(_TOKEN_ID, 256)),
    "include_stop_str_in_output": _FLAG,
    "ignore_eos": _FLAG,
    "repetition_detection": Passed(
        Object(
            {
                "max_pattern_size": Passed(Whole(0, 64)),
                "min_pattern_size": Passed(Whole(0, 64)),
                "min_count": Passed(Whole(0, 1024)),
            }
        )
    ),
    # What the answer looks like.
    "response_format": Passed(_RESPONSE_FORMAT),
    "structured_outputs": Passed(STRUCTURED_OUTPUTS),
    "return_tokens_as_token_ids": _FLAG,
    "return_token_ids": _FLAG,
    "skip_special_tokens": _FLAG,
    "spaces_between_special_tokens": _FLAG,
    # How the prompt is read.
    "add_special_tokens": _FLAG,
    "truncate_prompt_tokens": Passed(Whole(-1, MAX_TOKENS)),
    # Of OpenAI's API, without effect here.
    "user": Dropped(),
    "metadata": Dropped(),
    "safety_identifier": Dropped(),
    "service_tier": Dropped(),
    "prompt_cache_key": Dropped(),
    "prompt_cache_options": Dropped(),
    "prompt_cache_retention": Dropped(),
    "store": Dropped(Flag(only=False)),
    # Refused.
    "prompt_logprobs": Refused(PROMPT_LOGPROBS),
    "use_beam_search": Refused("one request could take an engine from all others"),
    "length_penalty": Refused("it is for beam search"),
    "early_stopping": Refused("it is for beam search"),
    "priority": Refused("no client goes before another"),
    "request_id": Refused("two requests could have one"),
    "vllm_xargs": Refused("it is for extensions of the engine, which has none"),
    "kv_transfer_params": _OTHER_MACHINES,
    "ec_transfer_params": _OTHER_MACHINES,
    "session_id": _ONE_ENGINE,
    "watermarking": _ONE_ENGINE,
    "truncation_side": _ONE_ENGINE,
    "logprob_token_ids": _ONE_ENGINE,
    "routed_experts_prompt_start": _ONE_ENGINE,
    "return_token_offsets": _ONE_ENGINE,
    "return_prompt_text": _ONE_ENGINE,
    "stream_interval": _ONE_ENGINE,
    "mm_payload": _NO_MEDIA,
    "return_mm_kwargs": _NO_MEDIA,
    "mm_processor_kwargs": _NO_MEDIA,
    "media_io_kwargs": _NO_MEDIA,
    # Names that vLLM had before.
    "guided_json": Refused("use structured_outputs"),
    "guided_regex": Refused("use structured_outputs"),
    "guided_choice": Refused("use structured_outputs"),
    "guided_grammar": Refused("grammars beyond JSON Schema are not for users"),
    "guided_decoding_backend": Refused("the engine chooses it"),
    "guided_whitespace_pattern": Refused("it becomes a part of the engine's automaton"),
}
