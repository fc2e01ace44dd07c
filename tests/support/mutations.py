"""Changes to values and to evidence that somebody else signed, to show that each is noticed."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Parts = tuple[bytes, ...]
Record = TypeVar("Record", bound="DataclassInstance")


def with_field(value: Record, name: str, new: Any) -> Record:
    """A copy of `value` with one field replaced. A test may choose its name, and a wrong type."""
    return dataclasses.replace(value, **{name: new})


def single_bytes(parts: Parts, count: int, seed: int) -> Iterator[tuple[str, Parts]]:
    """`count` times one byte of one part, chosen evenly over all bytes, replaced by another."""
    random_ = random.Random(seed)
    places = [(part, at) for part, data in enumerate(parts) for at in range(len(data))]
    for _ in range(count):
        part, at = random_.choice(places)
        data = bytearray(parts[part])
        data[at] ^= random_.randrange(1, 256)
        yield f"part {part} byte {at:#x}", replaced(parts, part, bytes(data))


def structural(
    parts: Parts, others: Sequence[Parts], count: int, seed: int
) -> Iterator[tuple[str, Parts]]:
    """`count` changes of another kind, none of which leaves the parts as they were.

    Two ranges of a part swapped; a part cut, lengthened, dropped, doubled, or put in another's
    place; a range, or a whole part, taken from another evidence of the same kind.
    """
    random_ = random.Random(seed)
    made = 0
    while made < count:
        name, changed = _one(parts, others, random_)
        if changed != parts:
            made += 1
            yield name, changed


def replaced(parts: Parts, number: int, part: bytes) -> Parts:
    return (*parts[:number], part, *parts[number + 1 :])


def _one(parts: Parts, others: Sequence[Parts], random_: random.Random) -> tuple[str, Parts]:
    number = random_.randrange(len(parts))
    data = parts[number]
    other = random_.choice(others)
    size = random_.randrange(1, max(2, len(data) // 4))
    start = random_.randrange(len(data) - size + 1)
    kind = random_.choice(("swap", "cut", "extend", "drop", "double", "move", "splice", "exchange"))
    if kind == "swap":
        second = random_.randrange(len(data) - size + 1)
        swapped = bytearray(data)
        swapped[start : start + size] = data[second : second + size]
        swapped[second : second + size] = data[start : start + size]
        parts = replaced(parts, number, bytes(swapped))
    elif kind == "cut":
        parts = replaced(parts, number, data[:start] + data[start + size :])
    elif kind == "extend":
        parts = replaced(parts, number, data[:start] + random_.randbytes(size) + data[start:])
    elif kind == "drop":
        parts = parts[:number] + parts[number + 1 :]
    elif kind == "double":
        parts = (*parts[: number + 1], *parts[number:])
    elif kind == "move":
        order = list(parts)
        order.insert(random_.randrange(len(parts)), order.pop(number))
        parts = tuple(order)
    elif kind == "splice":
        donor = other[min(number, len(other) - 1)]
        spliced = data[:start] + donor[start : start + size] + data[start + size :]
        parts = replaced(parts, number, spliced)
    else:
        parts = replaced(parts, number, other[min(number, len(other) - 1)])
    return f"{kind} part {number} at {start:#x}, {size} bytes", parts
