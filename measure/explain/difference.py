"""What differs: one record for every platform, and how two lists of events are matched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import SequenceMatcher
from typing import Any, Protocol, TypeAlias, TypeVar

from measure.eventtext import printable
from measure.pcr import Component

NOTHING = "nothing"

_Predicted = TypeVar("_Predicted")

Place: TypeAlias = tuple[str, Component]
# A difference in the first place of each shows again in the second ones.
Consequences: TypeAlias = tuple[tuple[Place, tuple[Place, ...]], ...]


class Step(Protocol):
    """One extend of a register, as predicted or as logged."""

    @property
    def component(self) -> Component:
        """What it stands for."""

    @property
    def description(self) -> str:
        """Which event it is, for people."""

    @property
    def digest(self) -> bytes:
        """What is extended."""


@dataclass(frozen=True)
class Difference:
    """One thing that is not as expected.

    Attributes:
        register: where it shows: "PCR 4", "RTMR 1", "MRTD", "launch digest".
        component: what differs.
        description: which event of that register, or which part of the component.
        expected, seen: the two values: a digest in hex with what it was logged as, or text.
        follows: it differs only because another listed difference makes it differ.
    """

    register: str
    component: Component
    description: str
    expected: str
    seen: str
    follows: bool = False


@dataclass(frozen=True)
class Kernel:
    """A direct boot's own kernel (a bzImage) and the size of its initrd in bytes."""

    image: bytes
    initrd_size: int


@dataclass(frozen=True)
class Clues:
    """What helps to find a cause; each may be missing.

    Attributes:
        command_line: the machine's (/proc/cmdline). Registers have only its digest, so only with
            this text can a changed root hash be named.
        kernel: the image's, to recognise one that an old QEMU has rewritten.
        files: name and content of firmware, kernels, initrds or command lines that may have been
            used in place of the image's own.
    """

    command_line: str | None = None
    kernel: Kernel | None = None
    files: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True)
class Explanation:
    """The result of one comparison.

    Attributes:
        compared_with: the machine whose prediction is the nearest.
        differences: what is not as predicted; none if the machine is the predicted one.
        notes: what a reader has to know about the evidence itself.
    """

    compared_with: str
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()


def as_json(found: Sequence[Difference]) -> list[dict[str, Any]]:
    """The differences for programs, in their order: an object of the attributes each."""
    return [asdict(difference) | {"component": difference.component.value} for difference in found]


def render(found: Sequence[Difference]) -> str:
    """The differences for people: causes first, each with expected and seen below each other.

    Texts from the machine are printable in it, whatever they hold.
    """
    if not found:
        return "no difference: everything predicted is as expected"
    lines = []
    for difference in sorted(found, key=lambda d: d.follows):
        note = " (follows from the above)" if difference.follows else ""
        lines += [
            f"{difference.register}: {difference.component.value}: {difference.description}{note}",
            f"  expected  {difference.expected}",
            f"  seen      {difference.seen}",
        ]
    return "\n".join(printable(line) for line in lines)


def align(register: str, expected: Sequence[Step], seen: Sequence[Step]) -> list[Difference]:
    """The differences between two event lists of one register, after matching equal digests."""
    found: list[Difference] = []
    matcher = SequenceMatcher(
        None, [e.digest for e in seen], [e.digest for e in expected], autojunk=False
    )
    for tag, seen_from, seen_to, expected_from, expected_to in matcher.get_opcodes():
        if tag == "equal":
            continue
        wanted, got = expected[expected_from:expected_to], seen[seen_from:seen_to]
        for index in range(max(len(wanted), len(got))):
            left = wanted[index] if index < len(wanted) else None
            right = got[index] if index < len(got) else None
            event = left or right
            assert event is not None
            found.append(
                Difference(
                    register,
                    event.component,
                    left.description if left else "an event that should not be there",
                    left.digest.hex() if left else NOTHING,
                    f"{right.digest.hex()} ({right.description})" if right else NOTHING,
                )
            )
    return found


def nearest(
    found: Iterable[tuple[_Predicted, list[Difference]]],
) -> tuple[_Predicted, list[Difference]]:
    """The prediction with the fewest causes of a difference, and its differences."""
    return min(found, key=lambda item: sum(not d.follows for d in item[1]))


def unlogged(quoted: Mapping[str, bytes], replayed: Mapping[str, bytes]) -> list[Difference]:
    """The quoted registers, by name, that a log does not replay to: it hides or makes up events."""
    text = "the log does not give the quoted value, so it says nothing about it"
    return [
        Difference(name, Component.EVENT_LOG, text, value.hex(), replayed[name].hex())
        for name, value in quoted.items()
        if replayed[name] != value
    ]


def mark(found: Iterable[Difference], consequences: Consequences) -> list[Difference]:
    """Marks what follows from a cause that is listed too."""
    listed = list(found)
    places = {(d.register, d.component) for d in listed}
    following = {effect for cause, effects in consequences if cause in places for effect in effects}
    return [replace(d, follows=(d.register, d.component) in following) for d in listed]
