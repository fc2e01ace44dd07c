"""Payers and bills: read strictly, found from the end, and nothing that others can make."""

from __future__ import annotations

from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confide.errors import ConfideError, FormatError, VerificationError
from confide.protocol.bill import Bill, Billing, billing_of, sign_billing

KEY_ID, MANIFEST = b"\x01" * 32, b"\x02" * 32
PAYER = ec.generate_private_key(ec.SECP256R1())
SPKI = PAYER.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
SIGNED = sign_billing(PAYER, key_id=KEY_ID, manifest_sha256=MANIFEST)
BILL = Bill(b"statement", b"signature", b"certificate")


def payer(billing: bytes, key_id: bytes = KEY_ID, manifest: bytes = MANIFEST) -> bytes:
    return billing_of(billing, key_id=key_id, manifest_sha256=manifest)


def test_the_payer() -> None:
    assert payer(SIGNED.encode()) == sha256(SPKI).digest()
    assert payer(b"") == b""


def test_somebody_else_s_payer() -> None:
    """Who sees a payer's public key cannot name it for a key of his own."""
    for key_id, manifest in ((bytes(32), MANIFEST), (KEY_ID, bytes(32))):
        with pytest.raises(VerificationError) as error:
            payer(SIGNED.encode(), key_id, manifest)
        assert error.value.code == "bad-billing"
    thief = sign_billing(
        ec.generate_private_key(ec.SECP256R1()), key_id=KEY_ID, manifest_sha256=MANIFEST
    )
    with pytest.raises(VerificationError):
        payer(Billing(SPKI, thief.signature).encode())


@pytest.mark.parametrize(
    "billing",
    [b"\xa0", b"x", Billing(b"no key", b"").encode(), Billing(bytes(257), b"").encode()],
)
def test_malformed_payers(billing: bytes) -> None:
    with pytest.raises(FormatError):
        payer(billing)


def test_a_bill_is_found_from_the_end() -> None:
    payload = BILL.to_payload()
    body = b"frames that nobody parses" + b"\5" + len(payload).to_bytes(4, "big") + payload
    assert body[-4:] == b"bill"
    record = body[-int.from_bytes(body[-8:-4], "big") :]
    assert Bill.from_payload(record[5:]) == BILL


@pytest.mark.parametrize("at", [-1, -5])
def test_a_wrong_trailer(at: int) -> None:
    payload = bytearray(BILL.to_payload())
    payload[at] ^= 1
    with pytest.raises(ConfideError):
        Bill.from_payload(bytes(payload))


@pytest.mark.parametrize("payload", [b"", b"bill", bytes(8), BILL.encode(), bytes(40_000)])
def test_no_bill(payload: bytes) -> None:
    with pytest.raises(FormatError):
        Bill.from_payload(payload)
