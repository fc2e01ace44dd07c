"""What a CBOR value must be: the parts of CDDL (RFC 8610) that CoRIM is defined with.

A rule is a function of a value and the place where it stands; it returns nothing or raises a
FormatError that names the place, what was expected there and what was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from measure import cbor
from measure.cbor import Tag
from measure.errors import FormatError

Rule = Callable[[object, str], None]


@dataclass(frozen=True)
class Member:
    """A map's member: its name in the specification, its value's rule."""

    name: str
    rule: Rule
    required: bool


def must(name: str, rule: Rule) -> Member:
    """A member that has to be there."""
    return Member(name, rule, True)


def may(name: str, rule: Rule) -> Member:
    """A member that can be left out."""
    return Member(name, rule, False)


def anything(value: object, where: str) -> None:
    """The rule that every value meets."""


def text(value: object, where: str) -> None:
    """A text string."""
    _require(isinstance(value, str), where, "text", value)


def boolean(value: object, where: str) -> None:
    """True or false."""
    _require(isinstance(value, bool), where, "true or false", value)


def integer(value: object, where: str) -> None:
    """A number without fraction."""
    _require(type(value) is int, where, "an integer", value)


def unsigned(value: object, where: str) -> None:
    """A number without fraction, not negative."""
    _require(type(value) is int and value >= 0, where, "an unsigned integer", value)


def between(least: int, most: int) -> Rule:
    """A number without fraction from `least` to `most`."""

    def rule(value: object, where: str) -> None:
        fits = type(value) is int and least <= value <= most
        _require(fits, where, f"an integer from {least} to {most}", value)

    return rule


def nothing(value: object, where: str) -> None:
    """The value null."""
    _require(value is None, where, "null", value)


def blob(least: int = 0, most: int = cbor.MAX_SIZE) -> Rule:
    """A byte string of `least` to `most` bytes."""

    def rule(value: object, where: str) -> None:
        fits = isinstance(value, bytes) and least <= len(value) <= most
        _require(fits, where, f"{least} to {most} bytes" if least else "bytes", value)

    return rule


def exactly(*values: str | int) -> Rule:
    """One of some constants."""

    def rule(value: object, where: str) -> None:
        same = any(type(value) is type(v) and value == v for v in values)
        _require(same, where, " or ".join(map(str, values)), value)

    return rule


def tagged(number: int, content: Rule) -> Rule:
    """A value with a tag in front of it."""

    def rule(value: object, where: str) -> None:
        if not isinstance(value, Tag) or value.tag != number:
            raise _mismatch(where, f"tag {number}", value)
        content(value.value, where)

    return rule


def embedded(content: Rule) -> Rule:
    """A byte string that holds one encoded value."""

    def rule(value: object, where: str) -> None:
        if not isinstance(value, bytes):
            raise _mismatch(where, "bytes that hold CBOR", value)
        content(cbor.decode(value, where), where)

    return rule


def one_of(what: str, *choices: Rule) -> Rule:
    """The first choice that fits; `what` names them all."""

    def rule(value: object, where: str) -> None:
        for choice in choices:
            try:
                return choice(value, where)
            except FormatError:
                continue
        raise _mismatch(where, what, value)

    return rule


def list_of(item: Rule, least: int = 1) -> Rule:
    """An array of at least `least` items of one kind."""

    def rule(value: object, where: str) -> None:
        if not isinstance(value, list) or len(value) < least:
            raise _mismatch(where, f"an array of at least {least}", value)
        for number, entry in enumerate(value):
            item(entry, f"{where}[{number}]")

    return rule


def record(*items: Member) -> Rule:
    """An array with one place for each member; only the last ones can be left out."""
    least = sum(item.required for item in items)

    def rule(value: object, where: str) -> None:
        if not isinstance(value, list) or not least <= len(value) <= len(items):
            expected = f"an array of {', '.join(item.name for item in items)}"
            raise _mismatch(where, expected, value)
        for item, entry in zip(items, value, strict=False):
            item.rule(entry, f"{where}.{item.name}")

    return rule


def private(value: object, where: str) -> None:
    """A negative number: a key that a profile gives a meaning to."""
    _require(type(value) is int and value < 0, where, "a defined key or a negative one", value)


def label(value: object, where: str) -> None:
    """A number or text: the keys of COSE and CWT."""
    _require(type(value) is int or isinstance(value, str), where, "a number or text", value)


def undefined(value: object, where: str) -> None:
    """No key but the defined ones."""
    raise _mismatch(where, "a defined key", value)


def mapping(members: Mapping[int, Member], *, others: Rule = undefined, least: int = 0) -> Rule:
    """A map whose defined keys are numbers.

    Args:
        members: what is defined.
        others: the rule for further keys, whose values may be anything.
        least: how many members there must be at all.
    """

    def rule(value: object, where: str) -> None:
        if not isinstance(value, dict) or len(value) < least:
            raise _mismatch(where, f"a map of at least {least}", value)
        for key, entry in value.items():
            known = members.get(key) if type(key) is int else None
            if known is None:
                others(key, f"{where} (a key)")
            else:
                known.rule(entry, f"{where}.{known.name}")
        for key, member in members.items():
            if member.required and key not in value:
                raise _mismatch(f"{where}.{member.name}", f"a value (key {key})", None)

    return rule


def map_of(key_rule: Rule, value_rule: Rule, least: int = 1) -> Rule:
    """A map whose keys are all of one kind, and whose values are."""

    def rule(value: object, where: str) -> None:
        if not isinstance(value, dict) or len(value) < least:
            raise _mismatch(where, f"a map of at least {least}", value)
        for key, entry in value.items():
            key_rule(key, f"{where} (a key)")
            value_rule(entry, f"{where}[{key!r:.40}]")

    return rule


def _require(met: bool, where: str, expected: str, value: object) -> None:
    if not met:
        raise _mismatch(where, expected, value)


def _mismatch(where: str, expected: str, value: object) -> FormatError:
    seen = "nothing" if value is None else f"{type(value).__name__} {value!r}"[:80]
    return FormatError("not as CoRIM defines it", file=where, expected=expected, seen=seen)
