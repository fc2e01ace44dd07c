"""Quote, signature, key and PCR selection: what is read, and everything that is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import FormatError
from confide.vendors.tpm.structures import (
    AK_ATTRIBUTES,
    AK_TEMPLATE,
    Alg,
    EccPublic,
    EcdsaSignature,
    KeyAttributes,
    Quote,
    TpmReader,
    check_ak_template,
    encode_pcr_selection,
    parse_pcr_selection,
    parse_signature,
    pcr_digest,
    u16,
    u32,
)

# Made by swtpm 0.7.1: PCRs 0 to 15 right after TPM2_Startup, extra data 32 times "x"
QUOTE = bytes.fromhex(
    "ff544347"
    "8018"
    "0022000b0a3347775fcc838467efb40fd54b855e82374cf77abfed87d59de22fe9f51cb4"
    "0020" + "78" * 32 + "000000000000000a00000002000000000120191023001636360000000"
    "1000b03ffff00"
    "0020076a27c79e5ace2a3d47f9dd2e83e4ff6ea8872b3c2218f66c92b89b55f36560"
)
SIGNATURE = bytes.fromhex(
    "0018000b"
    "0020d41610fb0f4717169eb135e92e59669de6efd7a60939634c9e00530fd1563da9"
    "002061ead08e97dc9512cb82835ae2e4e762fef6b4b277c7806bab9545ad1a8d0ff0"
)
KEY = EccPublic(b"\x11" * 32, b"\x22" * 32).encode()


def test_quote_made_by_swtpm() -> None:
    quote = Quote.parse(QUOTE)
    assert quote.extra_data == b"x" * 32
    assert quote.pcrs == frozenset(range(16))
    assert quote.pcr_digest == pcr_digest({n: bytes(32) for n in range(16)})
    assert quote.pcr_digest == hashlib.sha256(bytes(512)).digest()
    assert (quote.reset_count, quote.restart_count, quote.safe) == (2, 0, True)


def test_signature_made_by_swtpm() -> None:
    signature = parse_signature(SIGNATURE)
    assert isinstance(signature, EcdsaSignature)
    assert signature.r == int.from_bytes(SIGNATURE[6:38])
    assert signature.s == int.from_bytes(SIGNATURE[40:])


@pytest.mark.parametrize(
    ("parse", "data"),
    [(Quote.parse, QUOTE), (parse_signature, SIGNATURE), (EccPublic.parse, KEY)],
)
def test_every_truncation_and_any_trailing_byte_is_refused(
    parse: Callable[[bytes], object], data: bytes
) -> None:
    parse(data)
    for size in range(len(data)):
        with pytest.raises(FormatError):
            parse(data[:size])
    with pytest.raises(FormatError, match="trailing"):
        parse(data + b"\0")


@pytest.mark.parametrize(
    ("offset", "value", "names"),
    [
        (0, b"\xfe", "magic"),  # the caller's own bytes, not a TPM's
        (4, b"\x80\x17", "type"),  # a certification of a key, not a quote
        (6, b"\xff\xff", "qualified signer"),
        (42, b"\x00\x43", "extra data"),
        (92, b"\x02", "clock safe"),
        (101, b"\0\0\0\2", "number of PCR banks"),
        (105, b"\x00\x04", "PCR bank"),  # SHA-1
        (107, b"\x04", "PCR bitmap size"),
        (111, b"\x00\x41", "PCR digest"),
    ],
)
def test_quote_with_one_wrong_field_names_it(offset: int, value: bytes, names: str) -> None:
    changed = QUOTE[:offset] + value + QUOTE[offset + len(value) :]
    assert changed != QUOTE
    with pytest.raises(FormatError, match=names):
        Quote.parse(changed)


@pytest.mark.parametrize(
    ("offset", "value", "names"),
    [
        (0, b"\x00\x16", "scheme"),  # RSAPSS
        (2, b"\x00\x04", "hash"),  # SHA-1
        (4, b"\x00\x21", "r"),
        (38, b"\x00\x21", "s"),
    ],
)
def test_signature_with_one_wrong_field_names_it(offset: int, value: bytes, names: str) -> None:
    changed = SIGNATURE[:offset] + value + SIGNATURE[offset + len(value) :]
    with pytest.raises(FormatError, match=f"TPM signature: {names}"):
        parse_signature(changed)


def test_key_round_trip_and_template() -> None:
    assert EccPublic.parse(KEY) == EccPublic(b"\x11" * 32, b"\x22" * 32)
    assert EccPublic.parse(AK_TEMPLATE) == EccPublic(b"", b"")


@pytest.mark.parametrize("bit", range(32))
def test_key_with_any_other_attribute_is_refused(bit: int) -> None:
    changed = KEY[:4] + (int.from_bytes(KEY[4:8]) ^ 1 << bit).to_bytes(4) + KEY[8:]
    with pytest.raises(FormatError, match="attributes"):
        EccPublic.parse(changed)


def test_attestation_key_is_restricted_signing_and_bound_to_its_tpm() -> None:
    needed = KeyAttributes.RESTRICTED | KeyAttributes.SIGN_ENCRYPT | KeyAttributes.FIXED_TPM
    assert AK_ATTRIBUTES & needed == needed
    assert not AK_ATTRIBUTES & KeyAttributes.DECRYPT


@pytest.mark.parametrize("offset", [0, 2, 8, 10, 12, 14, 16, 18])
def test_key_of_any_other_kind_is_refused(offset: int) -> None:
    changed = KEY[:offset] + b"\x00\x01" + KEY[offset + 2 :]
    with pytest.raises(FormatError):
        EccPublic.parse(changed)


@given(st.sets(st.integers(0, 23)))
def test_pcr_selection_round_trip(pcrs: set[int]) -> None:
    reader = TpmReader(encode_pcr_selection(pcrs), "selection")
    assert parse_pcr_selection(reader) == pcrs
    reader.end()


@pytest.mark.parametrize("pcr", [-1, 24])
def test_pcr_selection_of_no_such_register(pcr: int) -> None:
    with pytest.raises(FormatError, match="0 to 23"):
        encode_pcr_selection([pcr])


def test_pcr_digest_is_in_register_order_whatever_the_map_order() -> None:
    low, high = b"\1" * 32, b"\2" * 32
    assert pcr_digest({10: high, 9: low}) == hashlib.sha256(low + high).digest()


@given(st.binary(max_size=200))
def test_random_bytes_raise_only_format_errors(data: bytes) -> None:
    for parse in (Quote.parse, parse_signature, EccPublic.parse):
        with pytest.raises(FormatError):
            parse(data)


def test_oversized_structure_is_refused() -> None:
    with pytest.raises(FormatError, match="at most 4096"):
        Quote.parse(QUOTE + bytes(4096))


def template(kind: Alg, attributes: int) -> bytes:
    return u16(kind) + u16(Alg.SHA256) + u32(attributes) + bytes(20)


def test_templates_of_restricted_signing_keys() -> None:
    check_ak_template(AK_TEMPLATE)
    check_ak_template(template(Alg.RSA, AK_ATTRIBUTES))


@pytest.mark.parametrize("bit", [1 << 1, 1 << 4, 1 << 5, 1 << 16, 1 << 17, 1 << 18])
def test_templates_of_keys_that_could_sign_anything(bit: int) -> None:
    with pytest.raises(FormatError, match="attributes"):
        check_ak_template(template(Alg.RSA, AK_ATTRIBUTES ^ bit))
