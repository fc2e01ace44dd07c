"""Peers that a gateway looks at again and again, each in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Generic, Protocol, TypeVar

from confide.encoding.console import say
from confide.net.loops import describe, start_loop

HEALTH_SECONDS = 2.0
"""Between two looks at a peer."""

PATIENCE_SECONDS = 10.0
"""How long one look may take: an emulated machine that computes an answer responds late."""


class Peer(Protocol):
    """What can be looked at."""

    url: str

    def look(self) -> None:
        """Find out how the peer is. Whatever it answers or raises, nothing older counts then."""


P = TypeVar("P", bound=Peer)


class Looking(Generic[P]):
    """Some peers of this gateway."""

    def __init__(self, peers: Sequence[P]) -> None:
        self.peers = tuple(peers)
        self._stop = threading.Event()

    def start(self) -> None:
        """Look at every peer now, and then every HEALTH_SECONDS."""
        for peer in self.peers:
            try:
                self._look(peer)
            except Exception as error:  # one odd answer must not keep the gateway from its start
                say(f"the first look at {peer.url} failed: {describe(error)}", program="gateway")
            look = partial(self._look, peer)
            start_loop(f"the look at {peer.url}", look, delay=HEALTH_SECONDS, stop=self._stop)

    def stop(self) -> None:
        """End the threads of `start`."""
        self._stop.set()

    def looked(self) -> None:
        """Called after each look."""

    def _look(self, peer: P) -> float:
        try:
            peer.look()
        finally:
            self.looked()
        return HEALTH_SECONDS
