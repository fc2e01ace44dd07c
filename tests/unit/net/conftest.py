"""HTTP peers for these tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.peer import Peer, peers


@pytest.fixture
def new_peer() -> Iterator[Callable[[], Peer]]:
    """A function that starts an HTTP peer."""
    with peers() as start:
        yield start


@pytest.fixture
def peer(new_peer: Callable[[], Peer]) -> Peer:
    """One HTTP peer."""
    return new_peer()
