"""Usage: how much a request took, in one unit. It is in the clear, in receipts and in bills.

The engine counts. An engine that was taken over could write a prompt into its counts, and the
counts leave in the clear. So a worker reports only counts that the request allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from confide.encoding.messages import CborMessage
from confide.errors import VerificationError
from measure.kinds import Integer, Word

TOKEN = "token"  # noqa: S105  (a unit, not a secret)
UNITS = (TOKEN, "character", "image", "millisecond")
MAX_USAGE = 1024

TEMPLATE_TOKENS = 4096
"""Tokens that a model's chat template may add to a prompt."""

MAX_LENGTH = 1 << 24
"""Tokens of one sequence, if nothing else limits it."""


@dataclass(frozen=True)
class Usage(CborMessage, what="the usage record", limit=MAX_USAGE):
    """Counts of what came in and what went out.

    Those of a record in the clear are NOT authentic until they equal the receipt's.
    """

    unit: Annotated[str, Word(UNITS)]
    input: Annotated[int, Integer()]
    output: Annotated[int, Integer()]


def token_bounds(body: bytes, request: Mapping[str, object], max_model_len: int | None) -> Usage:
    """The most tokens that a request may be said to have taken.

    Args:
        body: the app's request.
        request: the same, as JSON says it.
        max_model_len: the manifest's for the model, None if it has none.
    """
    prompts = request.get("prompt")
    # A list of numbers is one prompt, of tokens.
    many = isinstance(prompts, list) and any(isinstance(item, (str, list)) for item in prompts)
    choices = len(prompts) if isinstance(prompts, list) and many else 1
    choices *= _count(request.get("n")) or 1
    # Engines read the first one in a chat only.
    asked = _count(request.get("max_completion_tokens")) if "messages" in request else 0
    asked = asked or _count(request.get("max_tokens"))
    limit = asked or max_model_len or MAX_LENGTH
    return Usage(TOKEN, len(body) + TEMPLATE_TOKENS, min(choices * limit, 2**53))


def require_within(usage: Usage, bounds: Usage) -> None:
    """Raise VerificationError `bad-usage` for counts that are larger than their bounds."""
    if usage.unit != bounds.unit or usage.input > bounds.input or usage.output > bounds.output:
        raise VerificationError(
            "bad-usage",
            "the counts of this answer are larger than its request allows",
            expected=f"at most {bounds.input} and {bounds.output} of unit {bounds.unit}",
            seen=f"{usage.input} and {usage.output} of unit {usage.unit}",
            next="tell the operator: the engine's counts are wrong",
        )


def _count(value: object) -> int:
    """A number of the request, 0 for anything else."""
    return value if type(value) is int and 0 < value < 2**31 else 0
