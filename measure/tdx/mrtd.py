"""MRTD: SHA-384 over the pages that the VMM adds, and over the content of those it measures.

Source: Intel TDX Module Base Architecture Specification, section 12.2.1 (measurement of the initial
contents): TDH.MEM.PAGE.ADD hashes a 128-byte block with the page's address, TDH.MR.EXTEND one with
the address of 256 bytes, and these bytes. The TDX module takes the calls in any order, so the order
in which a VMM makes them is part of the measurement.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator

from measure.ovmf import TdxSection
from measure.tdx.shape import PageOrder
from measure.tdx.tdvf import ADDED_LATER, EXTEND_MRTD, PAGE, Tdvf

_CHUNK = 256


@functools.lru_cache(maxsize=4)  # many shapes have the same firmware
def measure(firmware: Tdvf, order: PageOrder) -> bytes:
    """The 48 bytes of MRTD of a machine with this firmware."""
    state = hashlib.sha384()
    for section in firmware.sections:
        for block in _section(firmware, section, order):
            state.update(block)
    return state.digest()


def _section(firmware: Tdvf, section: TdxSection, order: PageOrder) -> Iterator[bytes]:
    if section.attributes & ADDED_LATER:
        return
    pages = range(0, section.memory_size, PAGE)
    if not section.attributes & EXTEND_MRTD:
        yield from (_add(section.gpa + page) for page in pages)
        return
    content = firmware.data(section)
    if order is PageOrder.TWO:
        yield from (_add(section.gpa + page) for page in pages)
    for page in pages:
        if order is PageOrder.SINGLE:
            yield _add(section.gpa + page)
        for at in range(page, page + PAGE, _CHUNK):
            yield _block(b"MR.EXTEND", section.gpa + at)
            yield content[at : at + _CHUNK]


def _add(address: int) -> bytes:
    return _block(b"MEM.PAGE.ADD", address)


def _block(name: bytes, address: int) -> bytes:
    """128 bytes: name (16), guest physical address (8), zeros."""
    return name.ljust(16, b"\0") + address.to_bytes(8, "little") + bytes(104)
