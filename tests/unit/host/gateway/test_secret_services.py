"""The secret services that a gateway shows, and where it sends a key."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from confide.errors import FormatError, PolicyError
from confide.host.gateway.secret_services import SecretServices
from confide.protocol.keyexchange import InferenceKey, seal_key
from tests.support.peer import Peer
from tests.support.programs import free_port


def looked_at(*urls: str) -> SecretServices:
    services = SecretServices(urls)
    services.start()
    services.stop()
    return services


def message_to(peer: Peer) -> bytes:
    key = InferenceKey(bytes(32), "tiny", 1)
    return seal_key(key, peer.kem.public_bytes, manifest_sha256=bytes(32))


def test_the_offers_of_all_that_answer(new_peer: Callable[[], Peer]) -> None:
    one, two, ill = new_peer(), new_peer(), new_peer()
    one.is_secret_service()
    two.is_secret_service()
    ill.says("/v1/key-exchange", b"x", status=503)
    gone = f"http://127.0.0.1:{free_port()}"
    services = looked_at(one.url, gone, ill.url, two.url)
    shown = [offer.kem_public_key for offer in services.reply().services]
    assert shown == [one.kem.public_bytes, two.kem.public_bytes]


def test_eight_at_most(peer: Peer) -> None:
    peer.is_secret_service()
    assert len(looked_at(*[peer.url] * 9).reply().services) == 8


def test_a_key_goes_to_the_one_that_it_is_sealed_to(new_peer: Callable[[], Peer]) -> None:
    one, two = new_peer(), new_peer()
    one.is_secret_service()
    two.is_secret_service()
    services = looked_at(one.url, two.url)
    assert services.for_key(message_to(two)).upstream.url == two.url
    assert services.for_key(message_to(one)).upstream.url == one.url


def test_a_key_for_an_offer_of_before(peer: Peer) -> None:
    """A client sealed to the KEM key that was renewed meanwhile; the one before that is dead."""
    peer.is_secret_service()
    services = looked_at(peer.url)
    (service,) = services.peers
    oldest = message_to(peer)
    service.look()
    assert services.for_key(oldest) is service
    peer.renews()
    peer.is_secret_service()
    service.look()
    assert services.for_key(oldest) is service
    assert services.for_key(message_to(peer)) is service
    peer.renews()
    peer.is_secret_service()
    service.look()
    with pytest.raises(PolicyError) as caught:
        services.for_key(oldest)
    assert caught.value.code == "kem-key-gone"


def test_one_that_goes_away_is_not_shown(peer: Peer) -> None:
    peer.is_secret_service()
    services = looked_at(peer.url)
    peer.says("/v1/key-exchange", b"", status=500)
    services.peers[0].look()
    assert services.reply().services == ()


@pytest.mark.parametrize("message", [b"", b"\xa0", b"x" * 100])
def test_what_is_no_key(peer: Peer, message: bytes) -> None:
    with pytest.raises(FormatError):
        looked_at(peer.url).for_key(message)
