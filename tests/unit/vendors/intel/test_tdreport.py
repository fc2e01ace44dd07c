"""TDREPORT: read at the right place, and only if it is one."""

from __future__ import annotations

import pytest

from confide.errors import FormatError
from confide.vendors.intel.tdreport import LocalReport
from tests.support.simulated_tdreport import tdreport

REPORT_DATA, MRCONFIGID = bytes(range(64)), bytes(range(100, 148))
GOOD = tdreport(REPORT_DATA, MRCONFIGID)


def test_fields() -> None:
    assert LocalReport.parse(GOOD) == LocalReport(REPORT_DATA, MRCONFIGID)


@pytest.mark.parametrize("size", [0, 1023, 1025])
def test_another_size(size: int) -> None:
    with pytest.raises(FormatError, match="the size"):
        LocalReport.parse(GOOD.ljust(size, b"\0")[:size])


def test_another_type() -> None:
    """An SGX report has the type 0."""
    with pytest.raises(FormatError, match="the type"):
        LocalReport.parse(b"\0" + GOOD[1:])


@pytest.mark.parametrize("offset", [80, 127, 512, 576, 623, 1023])
def test_tdinfo_that_is_not_the_one_hashed(offset: int) -> None:
    data = bytearray(GOOD)
    data[offset] ^= 1
    with pytest.raises(FormatError, match="the hash of TDINFO") as caught:
        LocalReport.parse(bytes(data))
    assert caught.value.code == "bad-tdreport"
