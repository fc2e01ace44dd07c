"""Events in measurements.json: the same on each platform that has registers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from measure.pcr import Component, PcrEvent
from measure.tdx.rtmr import RtmrEvent


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


def read(event: dict[str, Any], size: int) -> tuple[Component, str, bytes]:
    """Component, description, and digest of `size` bytes, of one event.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: `write` did not write this.
    """
    description, digest = event["description"], bytes.fromhex(event["digest"])
    if not is_line(description) or len(digest) != size:
        raise ValueError(f"bad description, or a digest of {len(digest)} bytes")
    return Component(event["component"]), description, digest


def is_line(value: object) -> bool:
    """Whether it is text that can be shown as it is: printable ASCII."""
    return isinstance(value, str) and value.isascii() and value.isprintable()
