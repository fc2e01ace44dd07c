"""Events in measurements.json: the same on each platform that has registers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from measure.pcr import Component, PcrEvent
from measure.report.form import PcrEntry, RtmrEntry
from measure.tdx.rtmr import RtmrEvent

_Entry = TypeVar("_Entry", PcrEntry, RtmrEntry)


def write(kind: type[_Entry], events: Iterable[PcrEvent | RtmrEvent]) -> tuple[_Entry, ...]:
    """The entries of one register's events."""
    return tuple(kind(event.component, event.description, event.digest) for event in events)


def read(
    registers: Mapping[int, Sequence[_Entry]],
) -> Iterator[tuple[int, Component, str, bytes]]:
    """Register, component, description and digest of each event."""
    for register, listed in registers.items():
        for entry in listed:
            yield register, entry.component, entry.description, entry.digest
