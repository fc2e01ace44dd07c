"""Intel's extension of a PCK certificate."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.encoding.x509 import load_certificate
from confide.errors import FormatError
from confide.vendors.intel.pck import PckExtension
from tests.support.intel_certificates import SVNS, pck_extension
from tests.support.parsing import parse_or_refuse
from tests.support.simulated_intel import SimulatedIntel

INTEL = SimulatedIntel()


def test_pck_extension() -> None:
    certificate = INTEL.pck.certificate
    expected = PckExtension(bytes.fromhex("90c06f000000"), bytes(2), bytes(SVNS), 13, b"\x66" * 16)
    assert PckExtension.read(certificate) == expected


@pytest.mark.parametrize(
    "extension",
    [
        pck_extension(svns=SVNS[:15]),
        pck_extension(svns=[*SVNS, 0]),
        pck_extension(pce=0x10000),
        pck_extension(pce=1 << 80),
        pck_extension(pce_id=bytes(3)),
        pck_extension(fmspc=bytes(7)),
        pck_extension(instance=bytes(15)),
        pck_extension().replace(b"\x0d\x01\x04\x04", b"\x0d\x01\x09\x04"),  # FMSPC
        pck_extension().replace(b"\x0d\x01\x06\x04", b"\x0d\x01\x09\x04"),  # instance
        pck_extension().replace(b"\x0d\x01\x07\x30", b"\x0d\x01\x09\x30"),  # configuration
        pck_extension() + b"\0",
        pck_extension().replace(b"\x02\x01\x05", b"\x02\x01\xfb"),  # -5
        pck_extension().replace(b"\x02\x01\x05", b"\x04\x01\x05"),  # an octet string for a number
    ],
)
def test_pck_extension_of_another_form(extension: bytes) -> None:
    certificate = INTEL.issue_pck(extension=extension).certificate
    with pytest.raises(FormatError, match="which platform"):
        PckExtension.read(certificate)


def test_certificate_without_the_extension() -> None:
    with pytest.raises(FormatError, match="which platform"):
        PckExtension.read(INTEL.root.certificate)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(pck_extension()) - 1), st.binary(min_size=1, max_size=4))
def test_any_change_of_the_extension(at: int, new: bytes) -> None:
    value = pck_extension()
    altered = value[:at] + new + value[at + len(new) :]
    der = INTEL.issue_pck(extension=altered).der
    parse_or_refuse(lambda: PckExtension.read(load_certificate(der, "PCK")))
