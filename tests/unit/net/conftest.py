"""HTTP peers for these tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.front_server import Server, make_identity, running
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a test's own, with few threads."""
    identity = tmp_path_factory.mktemp("server") / "identity.pem"
    make_identity(identity)
    with running(identity) as started:
        yield started
