"""A verdict lists every check that was made, with what was expected and what was seen.

Fail closed: a verdict without checks has not passed, and a check without a reference value fails.
"""

from __future__ import annotations

from dataclasses import dataclass

from confide.errors import FormatError, VerificationError

FORMAT = "evidence format"
"""The source of what a check of the evidence's form expects."""
COLLATERAL = "collateral"
"""The source of what a check expects that fails because vendor collateral is missing or bad."""
_GET_COLLATERAL = "get it with `confide collateral fetch`"


@dataclass(frozen=True)
class Check:
    """One named check. `source` says where the expected value comes from ("manifest", "nonce")."""

    name: str
    expected: str
    seen: str
    passed: bool
    source: str

    def to_dict(self) -> dict[str, str | bool]:
        """For `--json`."""
        return {
            "name": self.name,
            "expected": self.expected,
            "seen": self.seen,
            "passed": self.passed,
            "source": self.source,
        }


def check_equal(name: str, expected: bytes | str, seen: bytes | str, source: str) -> Check:
    """Compare two values exactly; bytes are shown as hex. An empty expected value fails."""
    passed = bool(expected) and type(expected) is type(seen) and expected == seen
    return Check(name, _show(expected), _show(seen), passed, source)


@dataclass(frozen=True)
class Verdict:
    """All checks of one verification, in the order in which they were made."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True if there is at least one check and every check passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def first_failed(self) -> Check | None:
        """The first check that failed, None if there is none."""
        return next((check for check in self.checks if not check.passed), None)

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(self.checks + other.checks)

    def require(self) -> None:
        """Raise VerificationError, naming the first check that failed, unless all passed."""
        failed = self.first_failed
        if failed is not None:
            raise VerificationError(
                "not-verified",
                f"the check {failed.name!r} failed",
                expected=failed.expected,
                seen=failed.seen,
                next=_GET_COLLATERAL
                if failed.source == COLLATERAL
                else f"the expected value comes from the {failed.source}",
            )
        if not self.checks:
            raise VerificationError("not-verified", "nothing was checked")

    def to_dict(self) -> dict[str, object]:
        """For `--json`: {"passed": bool, "checks": [...]}."""
        return {"passed": self.passed, "checks": [check.to_dict() for check in self.checks]}


def unreadable(name: str, error: FormatError, source: str = FORMAT) -> Verdict:
    """The verdict on something that cannot be read: one failed check that says why."""
    expected = error.expected or "well-formed bytes"
    return Verdict((Check(name, expected, str(error), False, source),))


def _show(value: bytes | str) -> str:
    return value.hex() if isinstance(value, bytes) else value
