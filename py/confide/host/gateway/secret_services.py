"""The secret services behind this gateway: what clients seal keys to, and where each key goes."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from confide.errors import ConfideError, PolicyError
from confide.host.gateway.looking import PATIENCE_SECONDS, Looking
from confide.net.calls import Caller
from confide.net.http_client import Upstream
from confide.protocol.keyexchange import SealedKeyMessage
from confide.protocol.secret_service import MAX_OFFER, MAX_SERVICES, KeyExchangeReply, KeyOffer

RELAY_SECONDS = 60.0
"""How long taking a key may take; an emulated machine needs seconds."""


class SecretService:
    """One secret service. `offer` is its latest one, None while it does not answer."""

    def __init__(self, url: str) -> None:
        self.upstream = Upstream(url, connect_seconds=5.0, read_seconds=RELAY_SECONDS)
        self._caller = Caller(
            url,
            connect_seconds=5.0,
            read_seconds=PATIENCE_SECONDS,
            total_seconds=2 * PATIENCE_SECONDS,
        )
        self.url = self.upstream.url
        self.offer: KeyOffer | None = None
        # Of the two KEM keys that it may have: a client may still hold the older offer.
        self.kem_hashes: tuple[bytes, ...] = ()

    def look(self) -> None:
        """Ask for its offer."""
        offer = None
        try:
            answer = self._caller.call("GET", "/v1/key-exchange", limit=MAX_OFFER)
            if answer.status == 200:
                offer = KeyOffer.parse(answer.body)
                newest = sha256(offer.kem_public_key).digest()
                if newest not in self.kem_hashes[-1:]:
                    self.kem_hashes = (*self.kem_hashes[-1:], newest)
        except ConfideError:
            offer = None
        finally:
            self.offer = offer


class SecretServices(Looking[SecretService]):
    """All secret services of this gateway, at most 8."""

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__([SecretService(url) for url in urls[:MAX_SERVICES]])

    def reply(self) -> KeyExchangeReply:
        """The offers of all that answer."""
        offers = (service.offer for service in self.peers)
        return KeyExchangeReply(tuple(offer for offer in offers if offer is not None))

    def for_key(self, message: bytes) -> SecretService:
        """The secret service for a key message.

        Raises FormatError for a malformed one, PolicyError "kem-key-gone" if none has its KEM key.
        """
        sealed = SealedKeyMessage.parse(message)
        for service in self.peers:
            if sealed.kem_sha256 in service.kem_hashes:
                return service
        raise PolicyError(
            "kem-key-gone",
            "no secret service of this gateway has the KEM key of the message",
            seen=sealed.kem_sha256.hex(),
            next="fetch the KEM keys again and seal the key anew",
        )
