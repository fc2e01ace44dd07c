"""The TD HOB: how QEMU describes a TDX machine's memory to its firmware.

Source: QEMU, hw/i386/tdvf-hob.c and target/i386/kvm/tdx.c; PI 1.8, volume 3, section 5 (hand-off
blocks). The firmware measures the list without its end marker.
"""

from __future__ import annotations

import struct

from measure.errors import UnsupportedError
from measure.tdx.tdvf import Kind, Tdvf

_HANDOFF, _RESOURCE = 0x0001, 0x0003
_HANDOFF_SIZE, _RESOURCE_SIZE, _END_SIZE = 56, 48, 8
_VERSION = 9
_SYSTEM_MEMORY, _UNACCEPTED_MEMORY = 0, 7
_PRESENT_INITIALIZED_TESTED = 0x7

# QEMU's q35 machine: from this size on, what does not fit below 2 GiB starts at 4 GiB.
_SPLIT_FROM = 0xB0000000
_LOW_END, _HIGH_START = 0x80000000, 0x100000000


def build(firmware: Tdvf, memory: int) -> bytes:
    """What the firmware measures for a machine with `memory` bytes.

    Raises:
        UnsupportedError: the firmware has not one TD HOB section, or its sections do not fit into
            the machine's memory.
    """
    resources = b"".join(
        struct.pack(
            "<HH4x16xIIQQ",
            _RESOURCE,
            _RESOURCE_SIZE,
            _SYSTEM_MEMORY if accepted else _UNACCEPTED_MEMORY,
            _PRESENT_INITIALIZED_TESTED,
            start,
            end - start,
        )
        for start, end, accepted in _ranges(firmware, memory)
    )
    size = _HANDOFF_SIZE + len(resources) + _END_SIZE
    place = firmware.only(Kind.TD_HOB)
    if size > place.memory_size:
        raise UnsupportedError(
            "the TD HOB does not fit into its section",
            file=firmware.file,
            offset=place.offset,
            expected=f"at most {place.memory_size} bytes",
            seen=f"{size} bytes",
        )
    head = struct.pack("<HH4xI36xQ", _HANDOFF, _HANDOFF_SIZE, _VERSION, place.gpa + size)
    return head + resources


def _ranges(firmware: Tdvf, memory: int) -> list[tuple[int, int, bool]]:
    """(start, end, accepted) of all memory, ascending.

    Accepted is what the firmware finds ready when it starts: its temporary memory and this list.
    """
    free = [(0, memory)]
    if memory >= _SPLIT_FROM:
        free = [(0, _LOW_END), (_HIGH_START, _HIGH_START + memory - _LOW_END)]
    accepted = []
    for section in firmware.sections:
        if section.type not in (Kind.TD_HOB, Kind.TEMPORARY) or not section.memory_size:
            continue
        start, end = section.gpa, section.gpa + section.memory_size
        holder = next((r for r in free if r[0] <= start and end <= r[1]), None)
        if holder is None:
            raise UnsupportedError(
                "a TDX section lies outside the machine's memory",
                file=firmware.file,
                offset=section.offset,
                expected=f"within {memory:#x} bytes of memory",
                seen=f"{start:#x} to {end:#x}",
            )
        free.remove(holder)
        free += [part for part in ((holder[0], start), (end, holder[1])) if part[0] < part[1]]
        accepted.append((start, end, True))
    return sorted([*accepted, *((start, end, False) for start, end in free)])
