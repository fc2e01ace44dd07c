"""Intel's quotes: what is in them, and each length and type counts."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.errors import FormatError
from confide.vendors.intel.quote import MAX_QUOTE, Quote
from tests.support.parsing import parse_or_refuse
from tests.support.simulated_intel import REPORT, REPORT_15, SimulatedIntel

INTEL = SimulatedIntel()
QUOTE = INTEL.quote()
QUOTE_15 = INTEL.quote(REPORT_15)


def test_quote_1_0() -> None:
    quote = Quote.parse(QUOTE)
    assert (quote.version, quote.report, quote.trailing) == (4, REPORT, 0)
    assert quote.signed == QUOTE[:632]
    assert quote.pck_chain == INTEL.pck_chain
    assert quote.qe_auth_data == bytes(range(32))


def test_quote_1_5() -> None:
    quote = Quote.parse(QUOTE_15 + b"\0" * 7)
    assert (quote.version, quote.report, quote.trailing) == (5, REPORT_15, 7)
    assert quote.signed == QUOTE_15[: 54 + 648]


def test_version_5_may_hold_a_report_1_0() -> None:
    head = struct.pack("<H", 5) + QUOTE[2:48] + struct.pack("<HI", 2, 584)
    assert Quote.parse(head + QUOTE[48:]).report == REPORT


@pytest.mark.parametrize("quote", [QUOTE, QUOTE_15], ids=["4", "5"])
def test_every_truncation_is_refused(quote: bytes) -> None:
    for size in range(len(quote)):
        with pytest.raises(FormatError):
            Quote.parse(quote[:size])


def changed(quote: bytes, offset: int, layout: str, value: int) -> bytes:
    new = struct.pack(layout, value)
    return quote[:offset] + new + quote[offset + len(new) :]


@pytest.mark.parametrize(
    ("offset", "layout", "value"),
    [
        (0, "<H", 3),
        (0, "<H", 5),
        (0, "<H", 6),
        (2, "<H", 3),
        (4, "<I", 0),
        (4, "<I", 0x82),
        (12, "<B", 0),  # QE vendor
        (632, "<I", 0),
        (632, "<I", 0xFFFFFFFF),
        (764, "<H", 5),
        (766, "<I", 0),
        (766, "<I", 0xFFFFFFFF),
        (1218, "<H", 31),
        (1218, "<H", 0xFFFF),
        (1252, "<H", 3),
        (1254, "<I", 0),
        (1254, "<I", 0xFFFFFFFF),
    ],
)
def test_every_type_and_length_counts(offset: int, layout: str, value: int) -> None:
    with pytest.raises(FormatError):
        Quote.parse(changed(QUOTE, offset, layout, value))


@pytest.mark.parametrize("offset", [632, 766, 1254])
@pytest.mark.parametrize("by", [-1, 1])
def test_lengths_must_agree(offset: int, by: int) -> None:
    (size,) = struct.unpack_from("<I", QUOTE, offset)
    with pytest.raises(FormatError):
        Quote.parse(changed(QUOTE, offset, "<I", size + by) + b"\0")


@pytest.mark.parametrize(("kind", "size"), [(1, 384), (2, 648), (3, 584), (3, 649), (4, 648)])
def test_body_descriptor(kind: int, size: int) -> None:
    head = QUOTE_15[:48] + struct.pack("<HI", kind, size)
    with pytest.raises(FormatError):
        Quote.parse(head + QUOTE_15[54:])


def test_quote_that_is_too_large() -> None:
    Quote.parse(QUOTE + bytes(MAX_QUOTE - len(QUOTE)))
    with pytest.raises(FormatError, match="at most 65536"):
        Quote.parse(QUOTE + bytes(MAX_QUOTE - len(QUOTE) + 1))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_as_a_quote(data: bytes) -> None:
    with pytest.raises(FormatError):
        Quote.parse(data)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, len(QUOTE_15) - 1), st.binary(min_size=1, max_size=8))
def test_any_change_of_a_quote(at: int, new: bytes) -> None:
    parse_or_refuse(lambda: Quote.parse(QUOTE_15[:at] + new + QUOTE_15[at + len(new) :]))
