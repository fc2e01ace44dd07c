"""What a policy can ask of a value: one small class per kind of claim.

A claim compares a value from the evidence with a reference value and says so as a `Check`. A claim
without a reference value cannot be made (`PolicyError`): nothing is accepted by leaving it out. An
empty list accepts nothing. An opt-out is a claim of its own, and the verdict says that it is one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from confide.errors import PolicyError
from confide.verify.verdict import Check

Value = bytes | str | int


class Claim(Protocol):
    """Something that a policy demands of one value."""

    def check(self, seen: Value) -> Check:
        """Compares; never raises, whatever is seen."""
        ...


@dataclass(frozen=True)
class Equals:
    """The value is exactly `expected`."""

    name: str
    expected: Value | None
    source: str

    def __post_init__(self) -> None:
        _require(self.name, self.expected is not None and self.expected not in (b"", ""))

    def check(self, seen: Value) -> Check:
        """Passes if the value is the expected one, of the same type."""
        passed = type(seen) is type(self.expected) and seen == self.expected
        return Check(self.name, show(self.expected), show(seen), passed, self.source)


@dataclass(frozen=True)
class OneOf:
    """The value is one of `accepted`; of none, if that is empty."""

    name: str
    accepted: Collection[Value] | None
    source: str

    def __post_init__(self) -> None:
        _require(self.name, self.accepted is not None)

    def check(self, seen: Value) -> Check:
        """Passes if the value is in the list."""
        accepted = self.accepted or ()
        passed = any(type(seen) is type(value) and seen == value for value in accepted)
        expected = "one of " + ", ".join(map(show, accepted)) if accepted else "nothing is accepted"
        return Check(self.name, expected, show(seen), passed, self.source)


@dataclass(frozen=True)
class AtLeast:
    """The number is `minimum` or more."""

    name: str
    minimum: int | None
    source: str

    def __post_init__(self) -> None:
        _require(self.name, self.minimum is not None)

    def check(self, seen: Value) -> Check:
        """Passes if the value is a number that is large enough."""
        passed = isinstance(seen, int) and self.minimum is not None and seen >= self.minimum
        return Check(self.name, f"at least {self.minimum}", show(seen), passed, self.source)


@dataclass(frozen=True)
class Bits:
    """Of the bits in `mask`, exactly those in `value` are set; the other bits are free."""

    name: str
    mask: int
    value: int
    source: str

    def __post_init__(self) -> None:
        _require(self.name, self.mask > 0 and self.value & ~self.mask == 0)

    def check(self, seen: Value) -> Check:
        """Passes if the value is a number with these bits."""
        passed = isinstance(seen, int) and seen & self.mask == self.value
        expected = f"{self.value:#x} in the bits {self.mask:#x}"
        return Check(
            self.name,
            expected,
            f"{seen:#x}" if isinstance(seen, int) else show(seen),
            passed,
            self.source,
        )


@dataclass(frozen=True)
class InsecureAny:
    """An opt-out: accepts every value, and the verdict says which option of the policy did so."""

    name: str
    option: str
    source: str

    def __post_init__(self) -> None:
        _require(self.name, self.option.startswith("insecure_"))

    def check(self, seen: Value) -> Check:
        """Passes."""
        return Check(
            self.name, f"anything, because of {self.option}", show(seen), True, self.source
        )


def show(value: Value | None) -> str:
    """A value as a verdict shows it: bytes as hex, numbers in decimal."""
    return value.hex() if isinstance(value, bytes) else str(value)


def _require(name: str, is_set: bool) -> None:
    if not is_set:
        raise PolicyError(
            "unset-reference",
            f"the policy has no usable reference value for {name!r}",
            expected="a value for everything that is checked",
            next="set it in the manifest, or opt out with the option whose name says so",
        )
