"""Quotes that other TPMs made: seven of cloud and plain TPMs, published with their keys.

vtpm/quotes.json holds each with the file it is from; Azure's raw RSA signatures got the header of a
TPMT_SIGNATURE in front, and the key is the one named HCLAkPub in the same file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from confide.formats.tpm import Quote, parse_signature, pcr_digest
from confide.verify.vtpm import quote_signature_is_valid
from cryptography.hazmat.primitives.asymmetric import ec, rsa

QUOTES = json.loads((Path(__file__).parent / "vtpm/quotes.json").read_text())

each_quote = pytest.mark.parametrize("vector", QUOTES, ids=lambda vector: vector["name"])


def key_of(vector: dict[str, Any]) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(vector["exponent"], int(vector["modulus"], 16)).public_key()


def test_there_are_vectors() -> None:
    assert len(QUOTES) == 7


@each_quote
def test_quote(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["quote"])
    quote = Quote.parse(data)
    pcrs = {int(n): bytes.fromhex(value) for n, value in vector["pcrs"].items()}
    assert quote.extra_data.hex() == vector["extra_data"]
    assert quote.pcrs == set(pcrs)
    assert quote.pcr_digest == pcr_digest(pcrs)
    signature = parse_signature(bytes.fromhex(vector["signature"]))
    assert quote_signature_is_valid(key_of(vector), data, signature)


@each_quote
def test_any_changed_byte_breaks_the_signature(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["quote"])
    signature = parse_signature(bytes.fromhex(vector["signature"]))
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :]
        assert not quote_signature_is_valid(key_of(vector), changed, signature)


@each_quote
def test_any_changed_register_breaks_the_digest(vector: dict[str, Any]) -> None:
    quote = Quote.parse(bytes.fromhex(vector["quote"]))
    pcrs = {int(n): bytes.fromhex(value) for n, value in vector["pcrs"].items()}
    for number in pcrs:
        assert quote.pcr_digest != pcr_digest(pcrs | {number: b"\x99" * 32})


def test_signature_of_another_quote_or_another_key() -> None:
    first, second = QUOTES[0], QUOTES[3]
    signature = parse_signature(bytes.fromhex(first["signature"]))
    data = bytes.fromhex(first["quote"])
    assert not quote_signature_is_valid(key_of(first), bytes.fromhex(second["quote"]), signature)
    assert not quote_signature_is_valid(key_of(second), data, signature)


def test_key_of_another_kind_or_too_small_a_key() -> None:
    first = QUOTES[0]
    signature = parse_signature(bytes.fromhex(first["signature"]))
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    assert not quote_signature_is_valid(other, bytes.fromhex(first["quote"]), signature)
