"""Events in measurements.json: the same on each platform that has registers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from measure.pcr import Component, PcrEvent
from measure.tdx.rtmr import RtmrEvent

# Some thirty are the most in a real register; what matches two lists of them is cubic.
MAX_EVENTS = 256


def write(events: Iterable[PcrEvent | RtmrEvent]) -> list[dict[str, str]]:
    """The events of one register."""
    return [
        {
            "component": event.component.value,
            "description": event.description,
            "digest": event.digest.hex(),
        }
        for event in events
    ]


def read(
    registers: dict[str, list[dict[str, Any]]], size: int
) -> Iterator[tuple[int, Component, str, bytes]]:
    """Register, component, description, and digest of `size` bytes, of each event.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: `write` did not write this.
    """
    for register, listed in registers.items():
        if len(listed) > MAX_EVENTS:
            raise ValueError(f"more than {MAX_EVENTS} events of a register")
        for event in listed:
            yield int(register), *_read(event, size)


def _read(event: dict[str, Any], size: int) -> tuple[Component, str, bytes]:
    description, digest = event["description"], bytes.fromhex(event["digest"])
    if not is_line(description) or len(digest) != size:
        raise ValueError(f"bad description, or a digest of {len(digest)} bytes")
    return Component(event["component"]), description, digest


def is_line(value: object) -> bool:
    """Whether it is text that can be shown as it is: printable ASCII."""
    return isinstance(value, str) and value.isascii() and value.isprintable()
