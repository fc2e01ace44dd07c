"""The share opens at one worker, under one manifest, and for nothing else."""

from __future__ import annotations

import pytest

from confide.errors import ConfideError, VerificationError
from confide.protocol.kem import KemPrivateKey, seal_to
from confide.protocol.keyexchange import InferenceKey, seal_key
from confide.protocol.share import SEALED_SHARE_SIZE, SHARE_LABEL, open_share, seal_share

MANIFEST, SHARE = bytes(range(32)), b"\x11" * 32


@pytest.fixture(scope="module")
def kem() -> KemPrivateKey:
    return KemPrivateKey.generate()


def test_round_trip(kem: KemPrivateKey) -> None:
    sealed = seal_share(SHARE, kem.public_bytes, manifest_sha256=MANIFEST)
    assert len(sealed) == SEALED_SHARE_SIZE == 1168
    assert open_share(sealed, kem, manifest_sha256=MANIFEST) == SHARE
    assert seal_share(SHARE, kem.public_bytes, manifest_sha256=MANIFEST) != sealed


def test_another_worker_or_manifest(kem: KemPrivateKey) -> None:
    sealed = seal_share(SHARE, kem.public_bytes, manifest_sha256=MANIFEST)
    for key, manifest in ((KemPrivateKey.generate(), MANIFEST), (kem, bytes(32))):
        with pytest.raises(VerificationError) as error:
            open_share(sealed, key, manifest_sha256=manifest)
        assert error.value.code == "bad-key-seal"


def test_a_key_message_is_no_share(kem: KemPrivateKey) -> None:
    """The labels differ, so what was sealed for one purpose does not open for another."""
    key = seal_to(kem.public_bytes, SHARE, label=b"confide/key/2", manifest_sha256=MANIFEST)
    with pytest.raises(VerificationError):
        open_share(key, kem, manifest_sha256=MANIFEST)
    message = seal_key(InferenceKey(SHARE, "tiny", 1), kem.public_bytes, manifest_sha256=MANIFEST)
    with pytest.raises(VerificationError):
        open_share(message, kem, manifest_sha256=MANIFEST)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_share_of_another_size(kem: KemPrivateKey, size: int) -> None:
    sealed = seal_to(kem.public_bytes, bytes(size), label=SHARE_LABEL, manifest_sha256=MANIFEST)
    with pytest.raises(VerificationError, match="wrong size"):
        open_share(sealed, kem, manifest_sha256=MANIFEST)


def test_damage(kem: KemPrivateKey) -> None:
    sealed = seal_share(SHARE, kem.public_bytes, manifest_sha256=MANIFEST)
    for at in range(0, len(sealed), 97):
        with pytest.raises(ConfideError):
            open_share(
                sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :],
                kem,
                manifest_sha256=MANIFEST,
            )
