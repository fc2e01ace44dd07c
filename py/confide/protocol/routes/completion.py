"""The fields of POST /v1/completions."""

from __future__ import annotations

from typing import Any

from confide.protocol.routes.fields import Dropped, Fields, Object, Passed, Refused
from confide.protocol.routes.kinds import Flag, Kind, ListOf, Text, Whole, bad
from confide.protocol.routes.sampling import MAX_ANSWERS, RULES, SHARED

_TOKEN_IDS = ListOf(Whole(0, 2**31 - 1), 1 << 16, minimum=1)


class _Prompts(Kind):
    """A text, a list of texts, a list of token ids, or a list of such lists."""

    types = (str, list)

    def _read(self, value: str | list[Any]) -> Any:
        first = value[0] if isinstance(value, list) and value else 0
        match value, first:
            case str(), _:
                return Text().read(value)
            case _, str():
                return ListOf(Text(), MAX_ANSWERS).read(value)
            case _, list():
                return ListOf(_TOKEN_IDS, MAX_ANSWERS).read(value)
        return _TOKEN_IDS.read(value)

    def __str__(self) -> str:
        return f"a text, a list of 1 to {MAX_ANSWERS} texts, or token ids in one list or in several"


def _no_logprobs_of_an_echo(made: dict[str, Any]) -> None:
    """They would be those of the prompt, see PROMPT_LOGPROBS."""
    if made.get("echo") and "logprobs" in made:
        raise bad("no logprobs beside it", "both").within("echo")


_COMPLETION: Fields = {
    "prompt": Passed(_Prompts(), required=True),
    "echo": Passed(Flag()),
    "logprobs": Passed(Whole(0, 20)),
    "best_of": Dropped(Whole(1, 1)),
    "suffix": Refused("the engines cannot fill in"),
    "prompt_embeds": Refused("the engines take text only"),
    "thinking_token_budget": Refused("only one of the engines knows it"),
}

COMPLETION = Object({**_COMPLETION, **SHARED}, rules=(*RULES, _no_logprobs_of_an_echo))
"""The body of a completion request."""
