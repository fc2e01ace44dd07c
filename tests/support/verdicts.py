"""What the tests of all verifiers share."""

from __future__ import annotations

from collections.abc import Callable

from confide.verify.verdict import Verdict

Verify = Callable[..., Verdict]
"""A verifier with good arguments, which keywords replace."""


def failed(verdict: Verdict) -> list[str]:
    """The names of the checks that failed."""
    return [check.name for check in verdict.checks if not check.passed]
