"""KEM keys: a new one for each attempt to join, two at most, and each dies by the clock."""

from __future__ import annotations

import gc

import pytest

from confide.errors import UnavailableError
from confide.guest.mesh.join import Node
from confide.guest.mesh.kem import KEM_LIFETIME, KemKeys
from confide.protocol.kem import KemPrivateKey
from tests.support.local_coordinator import LocalCoordinator
from tests.support.mesh_nodes import new_node
from tests.support.simulated_machine import Clock


@pytest.fixture
def kem(monotonic: Clock) -> KemKeys:
    return KemKeys(monotonic)


def certify(kem: KemKeys, issued: float) -> KemPrivateKey:
    key = kem.fresh()
    kem.certified(key, issued=issued)
    return key


def test_a_key_dies_3900_seconds_after_its_certificate(kem: KemKeys, monotonic: Clock) -> None:
    assert KEM_LIFETIME == 3900
    key = certify(kem, monotonic.now)
    monotonic.now += 3899
    found = kem.find(key.sha256)
    assert found is not None and found.key is key
    monotonic.now += 1
    assert kem.find(key.sha256) is None
    kem.forget()
    assert not kem._keys


def test_two_at_most(kem: KemKeys, monotonic: Clock) -> None:
    one, two = certify(kem, monotonic.now), certify(kem, monotonic.now)
    assert kem.find(one.sha256) and kem.find(two.sha256)
    three = kem.fresh()
    assert kem.find(one.sha256) is None, "while the next one is made"
    assert kem.find(three.sha256) is None, "no certificate names it yet"
    kem.certified(three, issued=monotonic.now)
    assert kem.find(two.sha256) and kem.find(three.sha256)
    assert len(kem._keys) == 2


def test_attempts_that_fail_leave_no_key(kem: KemKeys, monotonic: Clock) -> None:
    """A host that hides the answers does not make a key that many certificates name."""
    gc.collect()
    before = count()
    current = certify(kem, monotonic.now)
    assert len({kem.fresh().sha256 for _ in range(5)}) == 5
    gc.collect()
    assert count() == before + 1
    assert kem.find(current.sha256)


def count() -> int:
    return sum(isinstance(found, KemPrivateKey) for found in gc.get_objects())


def test_each_certificate_has_a_key_of_its_own_and_the_machine_one_name(
    node: Node, monotonic: Clock
) -> None:
    one = node.join()
    monotonic.now += 2700
    two = node.join()
    assert one.kem_public_key != two.kem_public_key
    assert one.worker_id == two.worker_id
    assert len(node.kem._keys) == 2
    monotonic.now += 1200
    assert len(node.kem._keys) == 2
    node.kem.forget()
    assert len(node.kem._keys) == 1, "3,900 s after the first certificate"


def test_an_attempt_whose_answer_is_lost_uses_its_key_up(
    relay: LocalCoordinator, clock: Clock, monotonic: Clock
) -> None:
    node = new_node(relay, clock, monotonic)
    asked: list[bytes] = []

    def note(request: object) -> object:
        asked.append(request.kem_public_key)  # type: ignore[attr-defined]
        return request

    def lose(_: object) -> object:
        raise UnavailableError("peer-lost", "the answer is lost")

    relay.on_request, relay.on_reply = note, lose  # type: ignore[assignment]
    for _ in range(2):
        with pytest.raises(UnavailableError):
            node.join()
    relay.on_reply = lambda reply: reply
    node.join()
    assert len(set(asked)) == 3


def test_the_clock_counts_from_when_the_certificate_was_asked_for(
    relay: LocalCoordinator, clock: Clock, monotonic: Clock
) -> None:
    """A host that delays the answer does not make the key live longer."""
    node = new_node(relay, clock, monotonic)

    def delay(reply: object) -> object:
        monotonic.now += 200
        return reply

    relay.on_reply = delay  # type: ignore[assignment]
    node.join()
    (living,) = node.kem._keys.values()
    assert living.dies == monotonic.now - 200 + KEM_LIFETIME
