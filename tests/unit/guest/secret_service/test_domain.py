"""The key store's rules, without HTTP."""

from __future__ import annotations

import gc
import secrets
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
from confide.guest.mesh.kem import KEM_LIFETIME, KemKeys
from confide.guest.secret_service import domain
from confide.guest.secret_service.domain import SecretService
from confide.protocol.bill import sign_billing
from confide.protocol.certificates import MeshIdentity
from confide.protocol.kem import KemPrivateKey
from confide.protocol.keyexchange import InferenceKey, open_key, seal_key, worker_id_of, worker_key
from confide.protocol.manifest import Manifest
from tests.support.simulated_machine import MODEL, NOW, Clock, manifest_bytes, manifest_value

OTHER = manifest_value()["models"][0] | {"name": "other"}
MANIFEST = Manifest.parse(manifest_bytes(models=[manifest_value()["models"][0], OTHER]))
GATEWAY = "192.0.2.1"
KEY = InferenceKey(bytes(range(32)), MODEL, NOW)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def monotonic() -> Clock:
    return Clock(50)


@pytest.fixture
def kem(monotonic: Clock) -> KemKeys:
    return KemKeys(monotonic)


@pytest.fixture
def public(kem: KemKeys, monotonic: Clock) -> bytes:
    """The KEM key that a certificate names now."""
    return certify(kem, monotonic)


def certify(kem: KemKeys, monotonic: Clock) -> bytes:
    key = kem.fresh()
    kem.certified(key, issued=monotonic.now)
    return key.public_bytes


@pytest.fixture
def service(kem: KemKeys, clock: Clock, monotonic: Clock) -> SecretService:
    return SecretService(kem, now=clock, monotonic=monotonic, max_keys=12)


@pytest.fixture(scope="module")
def worker() -> MeshIdentity:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return MeshIdentity("worker-cpu", (MODEL,), None, key, NOW, NOW + 3600)


def seal(public: bytes, key: InferenceKey = KEY, *, manifest: Manifest = MANIFEST) -> bytes:
    return seal_key(key, public, manifest_sha256=manifest.sha256)


def new_key() -> InferenceKey:
    return replace(KEY, key=secrets.token_bytes(32))


def refused(service: SecretService, message: bytes) -> str:
    with pytest.raises(ConfideError) as caught:
        service.put(message, MANIFEST, source=GATEWAY)
    return caught.value.code


def unknown(service: SecretService, worker: MeshIdentity) -> bool:
    try:
        service.get(KEY.key_id, worker)
    except PolicyError as error:
        assert error.code == "unknown-key"
        return True
    return False


def test_put_and_get(
    service: SecretService, public: bytes, worker: MeshIdentity, monotonic: Clock
) -> None:
    accepted = service.put(seal(public), MANIFEST, source=GATEWAY)
    assert (accepted.key_id, accepted.expires_in) == (KEY.key_id, 3600)
    monotonic.now += 600
    released = service.get(KEY.key_id, worker)
    assert (released.model, released.expires_in, released.billing) == (MODEL, 3000, b"")
    assert released.key.hex() not in repr(released)
    assert repr(released.key) not in repr(released)


def test_each_worker_gets_its_own_key_and_nobody_the_client_s(
    service: SecretService, public: bytes, worker: MeshIdentity
) -> None:
    service.put(seal(public), MANIFEST, source=GATEWAY)
    other = replace(worker, public_key=ec.generate_private_key(ec.SECP256R1()).public_key())
    one, two = (service.get(KEY.key_id, who).key for who in (worker, other))
    assert len({one, two, KEY.key, KEY.key_id}) == 4
    assert one == worker_key(KEY.key, worker=worker_id_of(worker.public_key), model=MODEL)


def test_the_payer_is_released(service: SecretService, public: bytes, worker: MeshIdentity) -> None:
    payer = ec.generate_private_key(ec.SECP256R1())
    billing = sign_billing(payer, key_id=KEY.key_id, manifest_sha256=MANIFEST.sha256)
    service.put(seal(public, replace(KEY, billing=billing.encode())), MANIFEST, source=GATEWAY)
    assert len(service.get(KEY.key_id, worker).billing) == 32


def test_a_payer_that_did_not_sign(service: SecretService, public: bytes) -> None:
    payer = ec.generate_private_key(ec.SECP256R1())
    billing = sign_billing(payer, key_id=bytes(32), manifest_sha256=MANIFEST.sha256)
    message = seal(public, replace(KEY, billing=billing.encode()))
    assert refused(service, message) == "bad-billing"


def test_key_ends_an_hour_after_it_was_made(
    service: SecretService, public: bytes, worker: MeshIdentity, monotonic: Clock
) -> None:
    message = seal(public, replace(KEY, issued=NOW - 1000))
    assert service.put(message, MANIFEST, source=GATEWAY).expires_in == 2600
    monotonic.now += 2599
    assert service.get(KEY.key_id, worker).expires_in == 1
    monotonic.now += 1
    assert unknown(service, worker)


def test_key_from_the_future_does_not_live_longer(service: SecretService, public: bytes) -> None:
    late = replace(KEY, issued=NOW + 600)
    assert service.put(seal(public, late), MANIFEST, source=GATEWAY).expires_in == 3600
    assert refused(service, seal(public, replace(new_key(), issued=NOW + 601))) == "stale-key"


def test_no_overwrite(service: SecretService, public: bytes, worker: MeshIdentity) -> None:
    service.put(seal(public), MANIFEST, source=GATEWAY)
    before = service.get(KEY.key_id, worker).key
    for message in (seal(public), seal(public, replace(KEY, model="other"))):
        assert refused(service, message) == "key-exists"
    assert service.get(KEY.key_id, worker).key == before


def test_a_message_that_is_sent_again_never_opens_whatever_the_clocks_say(
    service: SecretService, public: bytes, worker: MeshIdentity, clock: Clock, monotonic: Clock
) -> None:
    """The host turns the wall clock back, so the key looks new for ever."""
    message = seal(public, replace(KEY, issued=NOW - 3000))
    service.put(message, MANIFEST, source=GATEWAY)
    codes = []
    for _ in range(KEM_LIFETIME + 200):
        monotonic.now += 1
        clock.now = NOW - 3000
        service.forget()
        codes.append(refused(service, message))
    # The key has ended after 600 s; its name is taken until the KEM key is dead.
    assert unknown(service, worker)
    assert codes == ["key-exists"] * 3899 + ["kem-key-gone"] * 201


def test_after_a_restart_nothing_opens(
    service: SecretService, public: bytes, monotonic: Clock
) -> None:
    message = seal(public)
    service.put(message, MANIFEST, source=GATEWAY)
    kem = KemKeys(monotonic)
    certify(kem, monotonic)
    restarted = SecretService(kem, now=Clock(), monotonic=monotonic)
    assert refused(restarted, message) == "kem-key-gone"


def test_a_name_is_free_again_at_last(
    service: SecretService, kem: KemKeys, public: bytes, clock: Clock, monotonic: Clock
) -> None:
    service.put(seal(public), MANIFEST, source=GATEWAY)
    monotonic.now += KEM_LIFETIME
    clock.now += KEM_LIFETIME
    later = replace(KEY, issued=int(clock.now))
    service.put(seal(certify(kem, monotonic), later), MANIFEST, source=GATEWAY)


def test_a_key_of_the_kem_key_before(
    service: SecretService, kem: KemKeys, public: bytes, monotonic: Clock
) -> None:
    """A client sealed to the certificate that was renewed a moment ago."""
    monotonic.now += 2700
    certify(kem, monotonic)
    service.put(seal(public), MANIFEST, source=GATEWAY)


def test_a_key_is_forgotten_also_if_nobody_asks(
    service: SecretService, public: bytes, monotonic: Clock
) -> None:
    """Memory of this machine after the hour opens nothing: neither M nor the KEM key is there."""
    service.put(seal(public), MANIFEST, source=GATEWAY)
    monotonic.now += 3600
    service.forget()
    gc.collect()
    stored = [found for found in gc.get_objects() if isinstance(found, domain._Stored)]
    assert stored and KEY.key not in [found.key for found in stored]
    monotonic.now += 300
    service._kem.forget()
    service.forget()
    assert not service._keys and not service._kem._keys


def test_store_is_bounded_and_recovers(
    service: SecretService, kem: KemKeys, public: bytes, clock: Clock, monotonic: Clock
) -> None:
    for number in range(12):
        service.put(seal(public, new_key()), MANIFEST, source=f"gateway {number // 3}")
    with pytest.raises(UnavailableError, match="as many keys as it can; expected fewer than 12"):
        service.put(seal(public, new_key()), MANIFEST, source="another")
    monotonic.now += KEM_LIFETIME
    clock.now += KEM_LIFETIME
    service.forget()
    late = replace(new_key(), issued=int(clock.now))
    service.put(seal(certify(kem, monotonic), late), MANIFEST, source=GATEWAY)


def test_one_source_has_a_quarter_of_the_store(
    service: SecretService, kem: KemKeys, public: bytes, clock: Clock, monotonic: Clock
) -> None:
    """Whatever it sends: keys of others are taken, and after the hour its own again."""
    for _ in range(3):
        service.put(seal(public, new_key()), MANIFEST, source="hostile")
    full = seal(public, new_key())
    with pytest.raises(UnavailableError, match="of this sender as it may; expected fewer than 3"):
        service.put(full, MANIFEST, source="hostile")
    assert service.put(full, MANIFEST, source=GATEWAY).expires_in == 3600
    monotonic.now += KEM_LIFETIME
    clock.now += KEM_LIFETIME
    service.forget()
    assert not service._held, "nothing is counted that is not there"
    later = replace(new_key(), issued=int(clock.now))
    service.put(seal(certify(kem, monotonic), later), MANIFEST, source="hostile")


def test_a_source_that_has_its_share_costs_no_opening(
    service: SecretService, public: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        service.put(seal(public, new_key()), MANIFEST, source="hostile")
    monkeypatch.setattr(domain, "open_key", None)
    with pytest.raises(UnavailableError, match="of this sender"):
        service.put(seal(public, new_key()), MANIFEST, source="hostile")


def test_an_id_that_is_used_again_counts_once(
    service: SecretService, kem: KemKeys, public: bytes, clock: Clock, monotonic: Clock
) -> None:
    """Its place is free before `forget` has seen it."""
    service.put(seal(public), MANIFEST, source="one")
    monotonic.now += KEM_LIFETIME
    clock.now += KEM_LIFETIME
    again = replace(KEY, issued=int(clock.now))
    service.put(seal(certify(kem, monotonic), again), MANIFEST, source="two")
    assert service._held == {"two": 1}


def test_the_model_must_be_of_the_manifest(service: SecretService, public: bytes) -> None:
    assert refused(service, seal(public, replace(KEY, model="huge"))) == "unknown-model"


def test_key_sealed_under_another_manifest(service: SecretService, public: bytes) -> None:
    other = Manifest.parse(manifest_bytes())
    assert refused(service, seal(public, manifest=other)) == "bad-key-seal"


def test_key_sealed_to_somebody_else(service: SecretService, public: bytes) -> None:
    stranger = KemPrivateKey.generate()
    message = seal(stranger.public_bytes)
    assert refused(service, message) == "kem-key-gone"
    ours = service._kem.find(next(iter(service._kem._keys)))
    assert ours is not None
    renamed = message.replace(stranger.sha256, ours.key.sha256)
    assert refused(service, renamed) == "bad-key-seal"


@pytest.mark.parametrize("at", [20, 600, 1130, -60, -20, -1])
def test_flipped_byte(service: SecretService, public: bytes, at: int) -> None:
    message = bytearray(seal(public))
    message[at] ^= 1
    with pytest.raises((VerificationError, FormatError, PolicyError)):
        service.put(bytes(message), MANIFEST, source=GATEWAY)


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
    service: SecretService, public: bytes, worker: MeshIdentity, change: dict[str, object]
) -> None:
    service.put(seal(public), MANIFEST, source=GATEWAY)
    with pytest.raises(PolicyError) as caught:
        service.get(KEY.key_id, replace(worker, **change))  # type: ignore[arg-type]
    assert caught.value.code == "model-not-allowed"


def test_a_message_that_waits_until_its_kem_key_is_dead_stores_nothing(
    service: SecretService,
    public: bytes,
    monotonic: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host stops the thread that takes it. Meanwhile the id has become free again."""
    message = seal(public)
    service.put(message, MANIFEST, source=GATEWAY)
    genuine = open_key

    def slow(*arguments: object, **options: object) -> object:
        monotonic.now += KEM_LIFETIME
        service.forget()
        return genuine(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(domain, "open_key", slow)
    assert refused(service, message) == "kem-key-gone"
    assert not service._keys


def test_a_key_ends_an_hour_after_it_arrived_however_long_it_took_to_store(
    service: SecretService,
    public: bytes,
    worker: MeshIdentity,
    monotonic: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    genuine = open_key

    def slow(*arguments: object, **options: object) -> object:
        monotonic.now += 200
        return genuine(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(domain, "open_key", slow)
    service.put(seal(public), MANIFEST, source=GATEWAY)
    assert service.get(KEY.key_id, worker).expires_in == 3400
