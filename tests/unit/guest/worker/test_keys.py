"""What the worker opens requests with: when it asks and forgets, and that nothing runs twice."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from dataclasses import replace

import pytest

from confide.errors import PolicyError, UnavailableError, VerificationError
from confide.guest.mesh.kem import KEM_LIFETIME, KemKeys
from confide.guest.worker import keys as keys_module
from confide.guest.worker.keys import MAX_SHARES, Keys
from confide.protocol.sealed import RequestContent, RequestHeaders, RequestKey, RequestSealer
from confide.protocol.secret_service import ReleasedKey
from confide.protocol.share import open_share, seal_share
from tests.support.simulated_machine import Clock

WORKER_KEY, KEY_ID, MANIFEST = bytes(range(32)), bytes(32), b"\x03" * 32
HEADERS = RequestHeaders("tiny", KEY_ID, MANIFEST, b"\x09" * 32)
PLACE = {"method": "POST", "path": "/v1/completions"}


class SecretService:
    def __init__(self, expires_in: int = 600) -> None:
        self.asked = 0
        self.expires_in = expires_in

    def __call__(self, key_id: bytes) -> ReleasedKey:
        self.asked += 1
        if key_id != KEY_ID:
            raise PolicyError("unknown-key", "no such key")
        return ReleasedKey(WORKER_KEY, "tiny", self.expires_in)


class Client:
    """Seals to the KEM key that the worker has at this moment."""

    def __init__(self, kem: KemKeys, clock: Clock) -> None:
        key = kem.fresh()
        kem.certified(key, issued=clock.now)
        self.share, self.counter = os.urandom(32), 0
        self.kem_sha256 = key.sha256
        self.sealed = seal_share(self.share, key.public_bytes, manifest_sha256=MANIFEST)

    def seal(self, body: bytes = b"{}") -> bytes:
        return self.seal_for(KEY_ID, body)

    def seal_for(self, key_id: bytes, body: bytes = b"{}") -> bytes:
        key = RequestKey(WORKER_KEY, self.share, self.kem_sha256, self.sealed)
        sealer = RequestSealer(key, self.counter)
        self.counter += 1
        return sealer.seal(RequestContent(body), replace(HEADERS, key_id=key_id), **PLACE)


def open_with(keys: Keys, sealed: bytes, key_id: bytes = KEY_ID) -> bytes:
    return keys.open(sealed, replace(HEADERS, key_id=key_id), **PLACE).content.body


def code(keys: Keys, sealed: bytes) -> str:
    with pytest.raises((PolicyError, VerificationError)) as caught:
        open_with(keys, sealed)
    return caught.value.code


@pytest.fixture
def clock() -> Clock:
    return Clock(50.0)


@pytest.fixture
def service() -> SecretService:
    return SecretService()


@pytest.fixture
def kem(clock: Clock) -> KemKeys:
    return KemKeys(clock)


@pytest.fixture
def client(kem: KemKeys, clock: Clock) -> Client:
    return Client(kem, clock)


@pytest.fixture
def keys(service: SecretService, kem: KemKeys, clock: Clock) -> Keys:
    return Keys(service, kem, clock=clock)


def test_a_key_is_fetched_once(keys: Keys, client: Client, service: SecretService) -> None:
    assert [open_with(keys, client.seal(b)) for b in (b"1", b"2")] == [b"1", b"2"]
    assert service.asked == 1


def test_many_requests_at_once_fetch_it_once(
    keys: Keys, client: Client, service: SecretService
) -> None:
    threads = [threading.Thread(target=open_with, args=(keys, client.seal())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.asked == 1


def test_a_share_is_opened_once(
    keys: Keys, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_with(keys, client.seal())
    monkeypatch.setattr(keys_module, "open_share", None)
    open_with(keys, client.seal())


def test_a_share_is_remembered_only_after_a_request_has_opened(keys: Keys, client: Client) -> None:
    """Nobody without the key fills the memory, or makes a worker keep a share."""
    sealed = client.seal()
    assert code(keys, sealed[:-1] + bytes([sealed[-1] ^ 1])) == "bad-seal"
    assert not keys._keys[KEY_ID]._shares
    assert open_with(keys, sealed) == b"{}"


def test_one_key_remembers_few_shares(keys: Keys, kem: KemKeys, clock: Clock) -> None:
    for _ in range(MAX_SHARES + 3):
        client = Client(kem, clock)
        clock.now += 1
        client.counter = int(clock.now)
        open_with(keys, client.seal())
    assert len(keys._keys[KEY_ID]._shares) == MAX_SHARES


def test_a_share_of_another_client(keys: Keys, client: Client, kem: KemKeys, clock: Clock) -> None:
    """Somebody in the middle puts another genuine sealed share before the request."""
    sealed, other = client.seal(), Client(kem, clock)
    swapped = other.kem_sha256 + other.sealed + sealed[32 + 1168 :]
    assert code(keys, swapped) == "bad-seal"
    assert open_with(keys, sealed) == b"{}"


@pytest.mark.parametrize(("at", "expected"), [(0, "kem-key-gone"), (40, "bad-key-seal")])
def test_a_damaged_share(keys: Keys, client: Client, at: int, expected: str) -> None:
    sealed = client.seal()
    assert code(keys, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]) == expected


def test_an_unknown_key_is_not_remembered(
    keys: Keys, client: Client, service: SecretService
) -> None:
    for _ in range(2):
        with pytest.raises(PolicyError) as caught:
            open_with(keys, client.seal(), os.urandom(32))
        assert caught.value.code == "unknown-key"
    assert service.asked == 2


def test_replay(keys: Keys, client: Client) -> None:
    sealed = client.seal()
    open_with(keys, sealed)
    assert code(keys, sealed) == "replay"


def test_an_expired_key(keys: Keys, client: Client, service: SecretService, clock: Clock) -> None:
    open_with(keys, client.seal())
    clock.now += 600
    assert code(keys, client.seal()) == "unknown-key"
    keys.forget()
    assert code(keys, client.seal()) == "unknown-key"
    assert service.asked == 1


def test_a_request_of_before_never_opens_again(
    keys: Keys, client: Client, service: SecretService, clock: Clock
) -> None:
    """A turned clock ends the key here, and a secret service would still release it.

    As long as the share's KEM key lives, the window is there. After that, the share is gone.
    """
    sealed = client.seal()
    open_with(keys, sealed)
    codes = []
    for _ in range(KEM_LIFETIME + 100):
        clock.now += 1
        keys.forget()
        codes.append(code(keys, sealed))
    assert set(codes[:599]) == {"replay"}
    assert set(codes[599:3899]) == {"unknown-key"}
    assert set(codes[3899:]) == {"kem-key-gone"}
    assert service.asked == 1


def test_a_key_that_goes_while_a_request_opens(
    keys: Keys, client: Client, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window that would remember the request is not the one that others will ask."""
    genuine = open_share

    def slow(*arguments: object, **options: object) -> bytes:
        clock.now += 601
        keys.forget()
        clock.now -= 601
        return genuine(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(keys_module, "open_share", slow)
    assert code(keys, client.seal()) == "unknown-key"


def test_a_share_dies_with_its_kem_key_also_before_another_one_s_name(
    keys: Keys, client: Client, kem: KemKeys, clock: Clock
) -> None:
    """The name of the KEM key is in the clear. A gateway that changes it moves no share to it."""
    sealed = client.seal()
    open_with(keys, sealed)
    other = Client(kem, clock)
    assert code(keys, other.kem_sha256 + sealed[32:]) == "bad-key-seal"
    assert code(keys, sealed) == "replay"


def test_a_kem_key_that_dies_while_a_request_waits_opens_nothing(
    kem: KemKeys, client: Client, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host stops one of two threads with the same request, until the other's window is gone.

    A secret service whose clock is behind still releases the key, so there would be a new window.
    """
    keys = Keys(SecretService(expires_in=KEM_LIFETIME), kem, clock=clock)
    sealed = client.seal()
    stopped = keys._living(client.kem_sha256)
    assert open_with(keys, sealed) == b"{}"
    clock.now += KEM_LIFETIME
    keys.forget()
    assert not keys._keys
    monkeypatch.setattr(keys, "_living", lambda _: stopped)
    assert code(keys, sealed) == "kem-key-gone"


def test_a_key_that_is_forgotten_while_a_request_opens_is_no_empty_key(
    keys: Keys, kem: KemKeys, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody could seal under no key at all, and to the window and cache of another client."""
    victim, stranger = Client(kem, clock), Client(kem, clock)
    open_with(keys, victim.seal())
    sealer = RequestSealer(
        RequestKey(b"", stranger.share, stranger.kem_sha256, stranger.sealed), 2**63
    )
    forged = sealer.seal(RequestContent(b"{}"), HEADERS, **PLACE)
    genuine = open_share

    def slow(*arguments: object, **options: object) -> bytes:
        clock.now += 600
        keys.forget()
        return genuine(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(keys_module, "open_share", slow)
    assert code(keys, forged) == "unknown-key"


def test_nothing_is_left_after_the_hour(keys: Keys, client: Client, clock: Clock) -> None:
    """Neither K_w nor the share is in any object that can be reached."""
    open_with(keys, client.seal())
    key = keys._keys[KEY_ID]
    assert key.key == WORKER_KEY and client.share in [share for share, _ in key._shares.values()]
    clock.now += 600
    keys.forget()
    assert key.key == b""
    clock.now += KEM_LIFETIME
    keys.forget()
    assert not keys._keys
    left = weakref.ref(key)
    del key
    gc.collect()
    assert left() is None


def test_a_key_that_was_never_used_is_forgotten_with_its_end(
    keys: Keys, client: Client, clock: Clock
) -> None:
    sealed = client.seal()
    code(keys, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    clock.now += 600
    keys.forget()
    assert not keys._keys


def test_a_key_that_ends_at_once(kem: KemKeys, client: Client, clock: Clock) -> None:
    with pytest.raises(PolicyError, match="expired"):
        open_with(Keys(SecretService(expires_in=0), kem, clock=clock), client.seal())


def test_too_many_keys(
    kem: KemKeys, client: Client, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys under which a request has opened are never dropped before their time."""
    monkeypatch.setattr(keys_module, "MAX_KEYS", 2)
    keys = Keys(lambda _: ReleasedKey(WORKER_KEY, "tiny", 600), kem, clock=clock)
    for key_id in (bytes(32), bytes(31) + b"\1"):
        assert keys.open(client.seal_for(key_id), replace(HEADERS, key_id=key_id), **PLACE)
    with pytest.raises(UnavailableError) as caught:
        open_with(keys, client.seal(), os.urandom(32))
    assert caught.value.code == "too-many-keys"


def test_keys_that_nobody_uses_do_not_fill_the_memory(
    kem: KemKeys, client: Client, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client uploads many keys and names them in requests that do not open."""
    monkeypatch.setattr(keys_module, "MAX_KEYS", 3)
    keys = Keys(lambda _: ReleasedKey(WORKER_KEY, "tiny", 600), kem, clock=clock)
    sealed = client.seal()
    open_with(keys, sealed)
    for _ in range(10):
        with pytest.raises(VerificationError, match="does not open"):
            open_with(keys, client.seal(), os.urandom(32))
    assert len(keys._keys) == 3
    assert code(keys, sealed) == "replay"
    later = bytes(31) + b"\2"
    assert open_with(keys, client.seal_for(later), later) == b"{}"


def test_a_secret_service_that_hangs_holds_up_one_key(
    kem: KemKeys, client: Client, clock: Clock
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def fetch(key_id: bytes) -> ReleasedKey:
        if key_id != KEY_ID:
            asked.set()
            assert answer.wait(10)
        return ReleasedKey(WORKER_KEY, "tiny", 600)

    keys = Keys(fetch, kem, clock=clock)
    hangs = bytes([1]) * 32
    held = threading.Thread(target=open_with, args=(keys, client.seal_for(hangs), hangs))
    held.start()
    assert asked.wait(10)
    other = threading.Thread(target=open_with, args=(keys, client.seal()))
    other.start()
    other.join(5)
    done = not other.is_alive()
    answer.set()
    held.join()
    other.join()
    assert done


def test_a_key_ends_in_time_however_long_its_answer_was_held_up(
    kem: KemKeys, client: Client, clock: Clock
) -> None:
    def slow(_: bytes) -> ReleasedKey:
        clock.now += 50
        return ReleasedKey(WORKER_KEY, "tiny", 600)

    keys = Keys(slow, kem, clock=clock)
    open_with(keys, client.seal())
    clock.now += 550
    assert code(keys, client.seal()) == "unknown-key"


def test_a_model_that_the_key_is_not_for(keys: Keys, client: Client) -> None:
    with pytest.raises(PolicyError) as caught:
        keys.open(client.seal(), replace(HEADERS, model="other"), **PLACE)
    assert caught.value.code == "model-not-allowed"
