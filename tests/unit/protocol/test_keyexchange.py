"""Key exchange: opens for the right key and manifest at the right time, and for nothing else."""

from __future__ import annotations

import dataclasses
import hmac
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from confide.encoding.canonical import cbor_decode, cbor_encode
from confide.errors import ConfideError, FormatError, VerificationError
from confide.protocol.bill import sign_billing
from confide.protocol.kem import ENC_SIZE, KEM_PUBLIC_SIZE, KemPrivateKey, seal_to
from confide.protocol.keyexchange import (
    InferenceKey,
    OpenedKey,
    SealedKeyMessage,
    key_id_of,
    open_key,
    seal_key,
    worker_id_of,
    worker_key,
)

NOW = 1_800_000_000
MANIFEST = bytes(range(32))
KEY = InferenceKey(b"\x11" * 32, "tiny", NOW)


@pytest.fixture(scope="module")
def kem() -> KemPrivateKey:
    return KemPrivateKey.generate()


def opened(
    kem: KemPrivateKey, message: bytes, *, manifest: bytes = MANIFEST, now: int = NOW
) -> OpenedKey:
    return open_key(SealedKeyMessage.parse(message), kem, manifest_sha256=manifest, now=now)


def sealed(kem: KemPrivateKey, plaintext: Any) -> bytes:
    """A message with a plaintext that `seal_key` would not make."""
    data = plaintext if isinstance(plaintext, bytes) else cbor_encode(plaintext)
    box = seal_to(kem.public_bytes, data, label=b"confide/key/2", manifest_sha256=MANIFEST)
    return SealedKeyMessage(kem.sha256, box[:ENC_SIZE], box[ENC_SIZE:]).encode()


def parts(message: bytes) -> dict[str, Any]:
    value = cbor_decode(message, what="test")
    assert isinstance(value, dict)
    return value


def test_round_trip(kem: KemPrivateKey) -> None:
    assert len(kem.public_bytes) == KEM_PUBLIC_SIZE == 1216
    message = seal_key(KEY, kem.public_bytes, manifest_sha256=MANIFEST)
    key = opened(kem, message)
    assert (key.key, key.model, key.issued, key.billing) == (KEY.key, "tiny", NOW, b"")
    assert len(parts(message)["enc"]) == ENC_SIZE == 1120
    assert parts(message)["kem_sha256"] == sha256(kem.public_bytes).digest()


def test_every_seal_is_fresh_and_the_name_stays(kem: KemPrivateKey) -> None:
    other = KemPrivateKey.generate()
    messages = [
        seal_key(KEY, key.public_bytes, manifest_sha256=MANIFEST) for key in (kem, kem, other)
    ]
    assert len({parts(message)["enc"] for message in messages}) == 3
    assert opened(kem, messages[0]).key_id == opened(other, messages[2]).key_id == KEY.key_id


def test_what_a_key_becomes() -> None:
    """HKDF with one block, as RFC 5869 has it: extract, then expand."""

    def hkdf(salt: bytes, info: bytes) -> bytes:
        extracted = hmac.digest(salt or bytes(32), KEY.key, "sha256")
        return hmac.digest(extracted, info + b"\1", "sha256")

    assert key_id_of(KEY.key) == KEY.key_id == hkdf(b"", b"confide/key-id/2")
    worker = b"\x22" * 32
    expected = hkdf(worker, b"confide/worker-key/2tiny")
    assert worker_key(KEY.key, worker=worker, model="tiny") == expected
    others = {
        worker_key(KEY.key, worker=worker, model="big"),
        worker_key(KEY.key, worker=bytes(32), model="tiny"),
        worker_key(bytes(32), worker=worker, model="tiny"),
    }
    assert len(others | {expected, KEY.key, KEY.key_id}) == 6


def test_the_name_of_a_worker() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert worker_id_of(key) == sha256(spki).digest()


def test_a_payer(kem: KemPrivateKey) -> None:
    payer = ec.generate_private_key(ec.SECP256R1())
    billing = sign_billing(payer, key_id=KEY.key_id, manifest_sha256=MANIFEST)
    paid = dataclasses.replace(KEY, billing=billing.encode())
    message = seal_key(paid, kem.public_bytes, manifest_sha256=MANIFEST)
    assert opened(kem, message).billing == sha256(billing.public_key).digest()
    stolen = dataclasses.replace(paid, key=b"\x12" * 32)
    message = seal_key(stolen, kem.public_bytes, manifest_sha256=MANIFEST)
    with pytest.raises(VerificationError) as error:
        opened(kem, message)
    assert error.value.code == "bad-billing"


def test_another_private_key(kem: KemPrivateKey) -> None:
    message = seal_key(KEY, KemPrivateKey.generate().public_bytes, manifest_sha256=MANIFEST)
    with pytest.raises(VerificationError) as error:
        opened(kem, message, now=NOW)
    assert error.value.code == "bad-key-seal"


def test_another_manifest(kem: KemPrivateKey) -> None:
    message = seal_key(KEY, kem.public_bytes, manifest_sha256=bytes(32))
    with pytest.raises(VerificationError) as error:
        opened(kem, message, now=NOW)
    assert error.value.code == "bad-key-seal"


def test_time(kem: KemPrivateKey) -> None:
    message = seal_key(KEY, kem.public_bytes, manifest_sha256=MANIFEST)
    for now in (NOW - 600, NOW, NOW + 3599):
        opened(kem, message, now=now)
    for now in (NOW - 601, NOW + 3600, NOW + 10**6, 0):
        with pytest.raises(VerificationError) as error:
            opened(kem, message, now=now)
        assert error.value.code == "stale-key"


def test_flipped_bytes(kem: KemPrivateKey) -> None:
    message = seal_key(KEY, kem.public_bytes, manifest_sha256=MANIFEST)
    # Every byte of the small parts, and a sample of the large encapsulated key.
    for at in [*range(120), *range(120, len(message), 37), len(message) - 1]:
        changed = message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]
        with pytest.raises(ConfideError):
            opened(kem, changed)


def test_spliced_parts(kem: KemPrivateKey) -> None:
    one = parts(seal_key(KEY, kem.public_bytes, manifest_sha256=MANIFEST))
    two = parts(seal_key(KEY, kem.public_bytes, manifest_sha256=MANIFEST))
    message = cbor_encode({**one, "ciphertext": two["ciphertext"]})
    with pytest.raises(VerificationError):
        opened(kem, message)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"kem_sha256": bytes(31)}, FormatError),
        ({"enc": bytes(ENC_SIZE - 1)}, FormatError),
        ({"enc": bytes(ENC_SIZE + 1)}, FormatError),
        ({"ciphertext": b""}, VerificationError),
        ({"ciphertext": bytes(15)}, VerificationError),
        ({"ciphertext": None}, FormatError),
        ({"more": 1}, FormatError),
    ],
)
def test_malformed_messages(
    kem: KemPrivateKey, change: dict[str, Any], error: type[ConfideError]
) -> None:
    message = parts(seal_key(KEY, kem.public_bytes, manifest_sha256=MANIFEST))
    with pytest.raises(error):
        opened(kem, cbor_encode({**message, **change}))


GOOD: dict[str, Any] = {"key": bytes(32), "model": "a", "issued": NOW, "billing": b""}


def test_the_good_plaintext_opens(kem: KemPrivateKey) -> None:
    opened(kem, sealed(kem, GOOD))


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"\xff",
        {**GOOD, "key": bytes(31)},
        {**GOOD, "key": "a" * 32},
        {**GOOD, "model": "A"},
        {**GOOD, "model": ["a"]},
        {**GOOD, "billing": bytes(513)},
        {**GOOD, "billing": b"x"},
        {**GOOD, "issued": -1},
        {**GOOD, "issued": str(NOW)},
        {**GOOD, "more": 1},
        {"key": bytes(32), "model": "a", "issued": NOW},
    ],
)
def test_malformed_plaintexts(kem: KemPrivateKey, plaintext: Any) -> None:
    with pytest.raises(FormatError):
        opened(kem, sealed(kem, plaintext))


def test_bad_arguments(kem: KemPrivateKey) -> None:
    for public in (b"", kem.public_bytes[:-1], kem.public_bytes + b"\0", b"\xff" * KEM_PUBLIC_SIZE):
        with pytest.raises(FormatError):
            seal_key(KEY, public, manifest_sha256=MANIFEST)
    with pytest.raises(FormatError):
        seal_key(
            dataclasses.replace(KEY, key=bytes(31)), kem.public_bytes, manifest_sha256=MANIFEST
        )
    with pytest.raises(FormatError):
        seal_key(KEY, kem.public_bytes, manifest_sha256=b"")


def test_the_key_stays_out_of_logs() -> None:
    assert "11" * 8 not in repr(KEY) and r"\x11" not in repr(KEY)


@given(st.binary(max_size=1400))
def test_random_messages_raise_our_errors_only(data: bytes) -> None:
    with pytest.raises(ConfideError):
        opened(PRIVATE, data)


PRIVATE = KemPrivateKey.generate()
