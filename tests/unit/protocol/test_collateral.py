"""The collateral bundle: strict as a format, and no more than a carrier."""

from __future__ import annotations

from typing import Any

import pytest

from confide.encoding.canonical import cbor_decode, cbor_encode
from confide.errors import FormatError
from confide.protocol.collateral import MAX_BUNDLE, Bundle, Item, check_item_name

BUNDLE = Bundle(
    {
        "amd/milan/crl": Item(b"crl", 100),
        "intel/qe-identity": Item(b"{}", 200, chain=b"PEM"),
        "nvidia/ocsp/" + "ab" * 32: Item(b"answer", 300, nonce=bytes(32)),
    }
)


def test_round_trip() -> None:
    assert Bundle.parse(BUNDLE.encode()) == BUNDLE
    assert Bundle.parse(Bundle().encode()) == Bundle()
    assert BUNDLE.get("amd/milan/ark") is None


def test_every_truncation_and_any_trailing_byte_is_refused() -> None:
    data = BUNDLE.encode()
    for size in range(len(data)):
        with pytest.raises(FormatError):
            Bundle.parse(data[:size])
    with pytest.raises(FormatError):
        Bundle.parse(data + b"\0")


@pytest.mark.parametrize("field", ["data", "fetched", "chain", "nonce"])
def test_an_item_with_a_field_too_few_or_too_many(field: str) -> None:
    value: Any = cbor_decode(BUNDLE.encode(), what="bundle")
    item = value["items"]["amd/milan/crl"]
    item["more"] = item.pop(field)
    with pytest.raises(FormatError):
        Bundle.parse(cbor_encode(value))


def test_size() -> None:
    with pytest.raises(FormatError):
        Bundle.parse(bytes(MAX_BUNDLE + 1))
    with pytest.raises(FormatError):
        Bundle.parse(Bundle({"amd/milan/crl": Item(bytes((1 << 20) + 1), 0)}).encode())


@pytest.mark.parametrize(
    "name", ["", "amd", "amd/", "/amd/x", "amd/../x", "amd/a b", "a/b/c/d/e/f"]
)
def test_names_that_are_no_names(name: str) -> None:
    with pytest.raises(FormatError):
        check_item_name(name)
    with pytest.raises(FormatError):
        Bundle.parse(Bundle({name: Item(b"", 0)}).encode())
