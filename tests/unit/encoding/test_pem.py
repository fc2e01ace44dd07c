"""Certificate chains as PEM text have one spelling; every other one is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.encoding.pem import read_chain, write_chain
from confide.errors import FormatError
from tests.support.simulated_intel import SimulatedIntel

INTEL = SimulatedIntel()


def read(data: bytes) -> tuple[bytes, ...]:
    return read_chain(data, "chain", max_certificates=3)


def test_pem_has_one_spelling() -> None:
    text = write_chain(INTEL.pck_chain)
    for same in (text, text + b"\0", text[:-1], text[:-1] + b"\0"):
        assert read(same) == INTEL.pck_chain
    for other in (
        b"",
        b"\n" + text,
        text + b"\n",
        text + b"\0\0",
        text + b"more",
        text.replace(b"\n", b"\r\n"),
        text.replace(b"-----\n", b"-----\n\n", 1),
        text.replace(b"-----END", b" -----END", 1),
        text.replace(b"CERTIFICATE", b"X509 CERTIFICATE"),
        text.replace(b"-----BEGIN CERTIFICATE-----\n", b"", 1),
        text * 2,
    ):
        with pytest.raises(FormatError):
            read(other)


def test_pem_with_bits_that_base64_ignores() -> None:
    """The last character before "=" has bits that decode to nothing: they must be zero."""
    text = write_chain((b"1234",))
    assert text == b"-----BEGIN CERTIFICATE-----\nMTIzNA==\n-----END CERTIFICATE-----\n"
    assert read(text) == (b"1234",)
    with pytest.raises(FormatError):
        read(text.replace(b"MTIzNA==", b"MTIzNB=="))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2000))
def test_any_bytes_within_pem(data: bytes, at: int) -> None:
    """What is read has one spelling, whatever it is: its bytes are the chain's business."""
    text = write_chain(INTEL.pck_chain)
    changed = text[:at] + data + text[at:]
    try:
        chain = read(changed)
    except FormatError:
        return
    spelled = changed.removesuffix(b"\0")
    assert write_chain(chain) in (spelled, spelled + b"\n")
