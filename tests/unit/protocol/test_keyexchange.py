"""Key exchange: opens for the right key and manifest at the right time, and for nothing else."""

from __future__ import annotations

import dataclasses
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.encoding.canonical import cbor_decode, cbor_encode
from confide.errors import ConfideError, FormatError, VerificationError
from confide.protocol import keyexchange
from confide.protocol.keyexchange import (
    ENC_SIZE,
    KEM_PUBLIC_SIZE,
    InferenceKey,
    KemPrivateKey,
    load_kem_public_key,
    seal_key,
)

NOW = 1_800_000_000
MANIFEST = bytes(range(32))
KEY = InferenceKey(b"\x11" * 32, ("tiny", "big"), NOW)


@pytest.fixture(scope="module")
def kem() -> KemPrivateKey:
    return KemPrivateKey.generate()


def sealed(kem: KemPrivateKey, plaintext: Any) -> bytes:
    """A message with a plaintext that `seal_key` would not make."""
    data = plaintext if isinstance(plaintext, bytes) else cbor_encode(plaintext)
    box = keyexchange._SUITE.encrypt(
        data, load_kem_public_key(kem.public_bytes), info=b"confide/key/1" + MANIFEST
    )
    return cbor_encode({"enc": box[:ENC_SIZE], "ciphertext": box[ENC_SIZE:]})


def parts(message: bytes) -> dict[str, Any]:
    value = cbor_decode(message, what="test")
    assert isinstance(value, dict)
    return value


def test_round_trip(kem: KemPrivateKey) -> None:
    assert len(kem.public_bytes) == KEM_PUBLIC_SIZE == 1216
    box = seal_key(KEY, kem.public_bytes, manifest_sha256=MANIFEST)
    key, key_id = kem.open_key(box.message, manifest_sha256=MANIFEST, now=NOW)
    assert key == KEY
    enc = parts(box.message)["enc"]
    assert len(enc) == ENC_SIZE == 1120
    assert key_id == box.key_id == sha256(enc).digest()


def test_every_seal_is_fresh(kem: KemPrivateKey) -> None:
    boxes = [seal_key(KEY, kem.public_bytes, manifest_sha256=MANIFEST) for _ in range(3)]
    assert len({box.key_id for box in boxes}) == 3


def test_another_private_key(kem: KemPrivateKey) -> None:
    box = seal_key(KEY, KemPrivateKey.generate().public_bytes, manifest_sha256=MANIFEST)
    with pytest.raises(VerificationError) as error:
        kem.open_key(box.message, manifest_sha256=MANIFEST, now=NOW)
    assert error.value.code == "bad-key-seal"


def test_another_manifest(kem: KemPrivateKey) -> None:
    box = seal_key(KEY, kem.public_bytes, manifest_sha256=bytes(32))
    with pytest.raises(VerificationError) as error:
        kem.open_key(box.message, manifest_sha256=MANIFEST, now=NOW)
    assert error.value.code == "bad-key-seal"


def test_time(kem: KemPrivateKey) -> None:
    box = seal_key(KEY, kem.public_bytes, manifest_sha256=MANIFEST)
    for now in (NOW - 300, NOW, NOW + 3599):
        kem.open_key(box.message, manifest_sha256=MANIFEST, now=now)
    for now in (NOW - 301, NOW + 3600, NOW + 10**6, 0):
        with pytest.raises(VerificationError) as error:
            kem.open_key(box.message, manifest_sha256=MANIFEST, now=now)
        assert error.value.code == "stale-key"


def test_flipped_bytes(kem: KemPrivateKey) -> None:
    message = seal_key(KEY, kem.public_bytes, manifest_sha256=MANIFEST).message
    # Every byte of the small part, and a sample of the large encapsulated key.
    for at in [*range(120), *range(120, len(message), 37), len(message) - 1]:
        changed = message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]
        with pytest.raises(ConfideError):
            kem.open_key(changed, manifest_sha256=MANIFEST, now=NOW)


def test_spliced_parts(kem: KemPrivateKey) -> None:
    one = parts(seal_key(KEY, kem.public_bytes, manifest_sha256=MANIFEST).message)
    two = parts(seal_key(KEY, kem.public_bytes, manifest_sha256=MANIFEST).message)
    message = cbor_encode({"enc": one["enc"], "ciphertext": two["ciphertext"]})
    with pytest.raises(VerificationError):
        kem.open_key(message, manifest_sha256=MANIFEST, now=NOW)


@pytest.mark.parametrize(
    ("change", "error"),
    [
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
    message = parts(seal_key(KEY, kem.public_bytes, manifest_sha256=MANIFEST).message)
    with pytest.raises(error):
        kem.open_key(cbor_encode({**message, **change}), manifest_sha256=MANIFEST, now=NOW)


GOOD: dict[str, Any] = {"key": bytes(32), "models": ["a"], "issued": NOW}


def test_the_good_plaintext_opens(kem: KemPrivateKey) -> None:
    kem.open_key(sealed(kem, GOOD), manifest_sha256=MANIFEST, now=NOW)


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"\xff",
        {**GOOD, "key": bytes(31)},
        {**GOOD, "key": "a" * 32},
        {**GOOD, "models": "a"},
        {**GOOD, "models": ["A"]},
        {**GOOD, "models": ["a", "a"]},
        {**GOOD, "models": [f"m{i}" for i in range(65)]},
        {**GOOD, "issued": -1},
        {**GOOD, "issued": str(NOW)},
        {**GOOD, "more": 1},
        {"key": bytes(32), "models": ["a"]},
    ],
)
def test_malformed_plaintexts(kem: KemPrivateKey, plaintext: Any) -> None:
    with pytest.raises(FormatError):
        kem.open_key(sealed(kem, plaintext), manifest_sha256=MANIFEST, now=NOW)


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
        PRIVATE.open_key(data, manifest_sha256=MANIFEST, now=NOW)


PRIVATE = KemPrivateKey.generate()
