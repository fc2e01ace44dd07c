"""The key store's rules, without HTTP."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from confide.errors import (
    ConfideError,
    FormatError,
    PolicyError,
    UnavailableError,
    VerificationError,
)
from confide.guest.secret_service.domain import SecretService
from confide.protocol.certificates import MeshIdentity
from confide.protocol.keyexchange import InferenceKey, SealedKey, seal_key
from confide.protocol.manifest import Manifest
from tests.support.simulated_machine import MODEL, NOW, Clock, manifest_bytes, manifest_value

OTHER = manifest_value()["models"][0] | {"name": "other"}
MANIFEST = Manifest.parse(manifest_bytes(models=[manifest_value()["models"][0], OTHER]))
KEY = bytes(range(32))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def monotonic() -> Clock:
    return Clock(50)


@pytest.fixture
def service(clock: Clock, monotonic: Clock) -> SecretService:
    return SecretService(now=clock, monotonic=monotonic, max_keys=3)


@pytest.fixture(scope="module")
def worker() -> MeshIdentity:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return MeshIdentity("worker-cpu", (MODEL,), None, key, NOW, NOW + 3600)


def seal(
    service: SecretService,
    *,
    models: tuple[str, ...] = (MODEL,),
    issued: int = NOW,
    manifest: Manifest = MANIFEST,
) -> SealedKey:
    key = InferenceKey(KEY, models, issued)
    return seal_key(key, service.kem_public_key, manifest_sha256=manifest.sha256)


def code_of(caught: pytest.ExceptionInfo[ConfideError]) -> str:
    return caught.value.code


def test_put_and_get(service: SecretService, worker: MeshIdentity, monotonic: Clock) -> None:
    sealed = seal(service, models=(MODEL, "other"))
    accepted = service.put(sealed.message, MANIFEST)
    assert (accepted.key_id, accepted.expires_in) == (sealed.key_id, 3600)
    monotonic.now += 600
    released = service.get(sealed.key_id, worker)
    assert (released.key, released.models) == (KEY, (MODEL, "other"))
    assert released.expires_in == 3000
    assert KEY.hex() not in repr(released)
    assert repr(KEY) not in repr(released)


def test_key_ends_an_hour_after_it_was_made(
    service: SecretService, worker: MeshIdentity, monotonic: Clock
) -> None:
    sealed = seal(service, issued=NOW - 1000)
    assert service.put(sealed.message, MANIFEST).expires_in == 2600
    monotonic.now += 2599
    assert service.get(sealed.key_id, worker).expires_in == 1
    monotonic.now += 1
    with pytest.raises(PolicyError) as caught:
        service.get(sealed.key_id, worker)
    assert code_of(caught) == "unknown-key"


def test_expired_key_cannot_be_brought_back(
    service: SecretService, clock: Clock, monotonic: Clock
) -> None:
    sealed = seal(service)
    service.put(sealed.message, MANIFEST)
    clock.now += 3600
    monotonic.now += 3600
    with pytest.raises(VerificationError) as caught:
        service.put(sealed.message, MANIFEST)
    assert code_of(caught) == "stale-key"


def test_key_from_the_future_does_not_live_longer(service: SecretService) -> None:
    assert service.put(seal(service, issued=NOW + 300).message, MANIFEST).expires_in == 3600
    with pytest.raises(VerificationError):
        service.put(seal(service, issued=NOW + 301).message, MANIFEST)


def test_no_overwrite(service: SecretService, worker: MeshIdentity) -> None:
    sealed = seal(service)
    service.put(sealed.message, MANIFEST)
    with pytest.raises(PolicyError) as caught:
        service.put(sealed.message, MANIFEST)
    assert code_of(caught) == "key-exists"
    assert service.get(sealed.key_id, worker).key == KEY


def test_store_is_bounded_and_recovers(service: SecretService, monotonic: Clock) -> None:
    for _ in range(3):
        service.put(seal(service).message, MANIFEST)
    with pytest.raises(UnavailableError) as caught:
        service.put(seal(service).message, MANIFEST)
    assert code_of(caught) == "too-many-keys"
    monotonic.now += 3600
    service.put(seal(service).message, MANIFEST)


def test_models_must_be_of_the_manifest(service: SecretService) -> None:
    with pytest.raises(PolicyError) as caught:
        service.put(seal(service, models=(MODEL, "huge")).message, MANIFEST)
    assert code_of(caught) == "unknown-model"
    with pytest.raises(PolicyError) as caught:
        service.put(seal(service, models=()).message, MANIFEST)
    assert code_of(caught) == "no-models"


def test_key_sealed_under_another_manifest(service: SecretService) -> None:
    other = Manifest.parse(manifest_bytes())
    with pytest.raises(VerificationError) as caught:
        service.put(seal(service, manifest=other).message, MANIFEST)
    assert code_of(caught) == "bad-key-seal"


def test_key_sealed_to_somebody_else(service: SecretService) -> None:
    with pytest.raises(VerificationError):
        service.put(seal(SecretService()).message, MANIFEST)


@pytest.mark.parametrize("at", [20, 600, 1130, -20, -1])
def test_flipped_byte(service: SecretService, at: int) -> None:
    message = bytearray(seal(service).message)
    message[at] ^= 1
    with pytest.raises((VerificationError, FormatError)):
        service.put(bytes(message), MANIFEST)


@pytest.mark.parametrize(
    "change",
    [
        {"models": ()},
        {"models": ("other",)},
        {"role": "secret-service"},
        {"role": "coordinator"},
    ],
)
def test_who_does_not_get_a_key(
    service: SecretService, worker: MeshIdentity, change: dict[str, object]
) -> None:
    sealed = seal(service)
    service.put(sealed.message, MANIFEST)
    with pytest.raises(PolicyError) as caught:
        service.get(sealed.key_id, replace(worker, **change))  # type: ignore[arg-type]
    assert code_of(caught) == "model-not-allowed"
