"""TDX firmware: its sections, MRTD, and the description of memory."""

from __future__ import annotations

import contextlib
import hashlib
import struct
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from measure.errors import FormatError, MeasureError, UnsupportedError
from measure.tdx import hob, mrtd, tdvf
from measure.tdx.shape import PageOrder
from measure.tdx.tdvf import Kind
from tests.support.measurement import ovmf_builders
from tests.support.measurement import tdx_builders as build

GIB = 1 << 30


@pytest.fixture
def firmware() -> tdvf.Tdvf:
    return tdvf.parse(build.firmware(), "fw")


# --- sections ---------------------------------------------------------------------------------


def test_sections_and_their_data(firmware: tdvf.Tdvf) -> None:
    assert [s.type for s in firmware.sections] == [0, 1, 3, 3, 2, 3]
    assert firmware.data(firmware.only(Kind.CFV)) == build.variable_store()
    assert firmware.data(firmware.only(Kind.BFV)) == build.firmware()[build.PAGE :]


def test_none_or_several_of_a_kind(firmware: tdvf.Tdvf) -> None:
    for kind, count in ((Kind.TEMPORARY, 3), (Kind.PERMANENT, 0)):
        with pytest.raises(
            UnsupportedError, match=f"exactly one {kind.name} section, seen {count}"
        ):
            firmware.only(kind)


@pytest.mark.parametrize(
    ("index", "field", "value", "message"),
    [
        (0, 0, 3 * build.PAGE, "data lies outside the image"),
        (0, 1, 0xFFFFFFFF, "data lies outside the image"),
        (0, 1, 0, "invalid data size"),
        (0, 3, build.PAGE, "invalid data size"),
        (2, 1, 16, "invalid data size"),
        (0, 2, 0xFFFFD001, "whole pages"),
        (2, 3, 0xF001, "whole pages"),
        (1, 2, 0xFFFFD000, "overlaps"),
        (3, 2, 0x80A000, "overlaps"),
        (0, 2, 0xFFFFF000, "above 4 GiB"),
        (2, 3, 1 << 60, "above 4 GiB"),
        (2, 3, (1 << 64) - build.PAGE, "above 4 GiB"),
        (2, 3, 0x10000000, "too large"),
        (0, 4, 5, "has an unknown type"),
        (0, 5, 4, "invalid attributes"),
        (0, 5, 3, "invalid attributes"),
        (2, 5, 2, "invalid attributes"),
        (2, 4, 4, "invalid attributes"),
        (2, 5, 1, "invalid attributes"),
        (4, 5, 1, "invalid attributes"),
        (0, 1, build.PAGE, "BFV is larger than its data"),
        (1, 1, build.PAGE - 1, "CFV is larger than its data"),
    ],
)
def test_a_section_that_no_vmm_loads(index: int, field: int, value: int, message: str) -> None:
    with pytest.raises(MeasureError, match=message):
        tdvf.parse(build.firmware(build.changed(index, field, value)), "fw")


def test_permanent_memory_may_be_large() -> None:
    sections = [*build.SECTIONS, (0, 0, 0x1000000, 0x40000000, 4, 2)]
    with_memory = tdvf.parse(build.firmware(sections), "fw")
    code = [s for s in with_memory.sections if s.type != Kind.PERMANENT]
    without = tdvf.Tdvf(with_memory.image, "fw", tuple(code))
    for order in PageOrder:
        assert mrtd.measure(with_memory, order) == mrtd.measure(without, order)


def test_a_section_of_huge_size_is_refused_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(FormatError):
        tdvf.parse(build.firmware(build.changed(2, 3, 1 << 60)), "fw")
    assert time.monotonic() - started < 0.5


def test_too_many_sections_and_none() -> None:
    for sections in ([], [(0, 0, 0x1000 * n, 0, 3, 0) for n in range(65)]):
        with pytest.raises(FormatError, match=r"invalid number of TDX sections|too many sections"):
            tdvf.parse(build.firmware(sections), "fw")


def test_firmware_that_is_not_made_for_tdx() -> None:
    with pytest.raises(UnsupportedError, match="not made for TDX"):
        tdvf.parse(ovmf_builders.image(), "fw")


def test_truncated() -> None:
    data = build.firmware()
    for size in (0, 1, 17, 50, build.PAGE, len(data) - 1):
        with pytest.raises(MeasureError):
            tdvf.parse(data[:size], "fw")


@settings(max_examples=300)
@given(st.data())
def test_changed_metadata_gives_a_result_or_a_measure_error(data: st.DataObject) -> None:
    image = bytearray(build.firmware())
    start = bytes(image).index(b"TDVF")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(start, start + 16 + 32 * len(build.SECTIONS) - 1))
        image[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MeasureError):
        found = tdvf.parse(bytes(image), "fw")
        for order in PageOrder:
            assert len(mrtd.measure(found, order)) == 48
        hob.build(found, GIB)


# --- MRTD -------------------------------------------------------------------------------------


def by_hand(image: bytes, two_pass: bool) -> bytes:
    """MRTD of `build.firmware()`, from the specification's words."""
    calls: list[bytes] = []
    for offset, raw_size, address, size, kind, _ in build.SECTIONS:
        pages = list(range(address, address + size, 4096))
        adds = [b"MEM.PAGE.ADD\0\0\0\0" + struct.pack("<Q104x", page) for page in pages]
        if kind != 0:
            calls += adds
            continue
        data = image[offset : offset + raw_size]
        extends = [
            b"MR.EXTEND\0\0\0\0\0\0\0" + struct.pack("<Q104x", address + at) + data[at : at + 256]
            for at in range(0, size, 256)
        ]
        if two_pass:
            calls += adds + extends
        else:
            for number, add in enumerate(adds):
                calls += [add, *extends[16 * number : 16 * number + 16]]
    return hashlib.sha384(b"".join(calls)).digest()


def test_mrtd_in_both_orders(firmware: tdvf.Tdvf) -> None:
    single, two = (mrtd.measure(firmware, order) for order in PageOrder)
    assert single == by_hand(firmware.image, two_pass=False)
    assert two == by_hand(firmware.image, two_pass=True)
    assert single != two


def test_mrtd_covers_the_code_and_not_the_variables(firmware: tdvf.Tdvf) -> None:
    for at, same in ((build.PAGE, False), (len(firmware.image) - 1, False), (0x60, True)):
        image = bytearray(firmware.image)
        image[at] ^= 1
        for order in PageOrder:
            found = mrtd.measure(tdvf.parse(bytes(image), "fw"), order)
            assert (found == mrtd.measure(firmware, order)) is same, (at, order)


# --- the TD HOB -------------------------------------------------------------------------------


def resources(block: bytes) -> list[tuple[int, int, int]]:
    """(type, start, size) of each resource; checks what is the same in all."""
    assert struct.unpack_from("<HHIIIQQQQ", block) == (1, 56, 0, 9, 0, 0, 0, 0, 0)
    assert struct.unpack_from("<Q", block, 48) == (0x809000 + len(block) + 8,)
    found = []
    for at in range(56, len(block), 48):
        kind, size, zero, owner, resource, attributes, start, length = struct.unpack_from(
            "<HHI16sIIQQ", block, at
        )
        assert (kind, size, zero, owner, attributes) == (3, 48, 0, bytes(16), 7)
        found.append((resource, start, length))
    return found


LOW = [
    (7, 0, 0x800000),
    (0, 0x800000, 0x6000),
    (7, 0x806000, 0x3000),
    (0, 0x809000, 0x2000),
    (0, 0x80B000, 0x2000),
    (7, 0x80D000, 0x4000),
    (0, 0x811000, 0xF000),
]


@pytest.mark.parametrize(
    ("memory", "rest"),
    [
        (2 * GIB, [(7, 0x820000, 2 * GIB - 0x820000)]),
        (0xAFF00000, [(7, 0x820000, 0xAFF00000 - 0x820000)]),
        (0xB0000000, [(7, 0x820000, 2 * GIB - 0x820000), (7, 4 * GIB, 0x30000000)]),
        (64 * GIB, [(7, 0x820000, 2 * GIB - 0x820000), (7, 4 * GIB, 62 * GIB)]),
    ],
)
def test_memory_is_described(
    firmware: tdvf.Tdvf, memory: int, rest: Sequence[tuple[int, int, int]]
) -> None:
    assert resources(hob.build(firmware, memory)) == [*LOW, *rest]


def test_memory_too_small_for_the_firmware(firmware: tdvf.Tdvf) -> None:
    assert hob.build(firmware, 0x820000)
    with pytest.raises(UnsupportedError, match="outside the machine's memory"):
        hob.build(firmware, 0x81F000)


def test_list_that_does_not_fit_into_its_section() -> None:
    sections = [s for s in build.SECTIONS if s[4] != 2] + [(0, 0, 0x809000, 0x0, 2, 0)]
    with pytest.raises(UnsupportedError, match="does not fit into its section"):
        hob.build(tdvf.parse(build.firmware(sections), "fw"), GIB)
