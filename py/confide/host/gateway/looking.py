"""Peers that a gateway looks at again and again, each in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

HEALTH_SECONDS = 2.0
"""Between two looks at a peer."""

PATIENCE_SECONDS = 10.0
"""How long one look may take: an emulated machine that computes an answer responds late."""


class Peer(Protocol):
    """What can be looked at."""

    def look(self) -> None:
        """Find out how the peer is. Raises nothing."""


P = TypeVar("P", bound=Peer)


class Looking(Generic[P]):
    """Some peers of this gateway."""

    def __init__(self, peers: Sequence[P]) -> None:
        self.peers = tuple(peers)
        self._stop = threading.Event()

    def start(self) -> None:
        """Look at every peer now, and then every HEALTH_SECONDS."""
        for peer in self.peers:
            peer.look()
            self.looked()
            threading.Thread(target=self._watch, args=(peer,), daemon=True).start()

    def stop(self) -> None:
        """End the threads of `start`."""
        self._stop.set()

    def looked(self) -> None:
        """Called after each look."""

    def _watch(self, peer: P) -> None:
        while not self._stop.wait(HEALTH_SECONDS):
            peer.look()
            self.looked()
