"""Which manifest a coordinator takes: the one that its machine was launched for, once."""

from __future__ import annotations

import pytest

from confide.errors import FormatError, PolicyError
from confide.guest.coordinator.domain import Coordinator
from confide.protocol.launch import UNBOUND
from confide.protocol.manifest import Manifest
from tests.support.simulated_machine import (
    NOW,
    Clock,
    SimulatedMachine,
    manifest_bytes,
    manifest_value,
)

MANIFEST = manifest_bytes()
OTHER_MODEL = manifest_value()["models"][0] | {"name": "other"}
MALFORMED = [
    b"",
    b"{}\n",
    MANIFEST[:-1],
    MANIFEST + b" ",
    MANIFEST.replace(b"  ", b"\t"),
    b"\xff",
]


def launched_for(manifest: bytes) -> Coordinator:
    """A coordinator whose machine was launched for these bytes. It does not have them yet."""
    machine = SimulatedMachine("coordinator", manifest=manifest)
    return Coordinator(machine, binding=machine.binding, now=Clock())


@pytest.fixture
def empty() -> Coordinator:
    return launched_for(MANIFEST)


def test_manifest_is_set_once(empty: Coordinator) -> None:
    assert empty.state == "no-manifest"
    sha256 = empty.set_manifest(MANIFEST)
    assert sha256 == Manifest.parse(MANIFEST).sha256
    assert empty.state == "ready"
    before = empty.mesh()
    assert empty.set_manifest(MANIFEST) == sha256
    assert empty.mesh() == before


@pytest.mark.parametrize("other", [manifest_bytes(models=[OTHER_MODEL]), *MALFORMED])
def test_what_the_machine_was_not_launched_for_is_refused(empty: Coordinator, other: bytes) -> None:
    """Also if it comes first, and unread: bytes that are no manifest get the same answer."""
    for _ in range(2):
        with pytest.raises(PolicyError) as caught:
            empty.set_manifest(other)
        assert caught.value.code == "wrong-manifest"
    assert empty.state == "no-manifest"
    empty.set_manifest(MANIFEST)
    before = empty.mesh()
    with pytest.raises(PolicyError) as caught:
        empty.set_manifest(other)
    assert caught.value.code == "wrong-manifest"
    assert empty.mesh() == before


def test_a_machine_that_was_launched_for_no_manifest_takes_none() -> None:
    coordinator = Coordinator(SimulatedMachine("coordinator"), binding=UNBOUND, now=Clock())
    with pytest.raises(PolicyError) as caught:
        coordinator.set_manifest(MANIFEST)
    assert caught.value.code == "wrong-manifest"


@pytest.mark.parametrize("data", MALFORMED)
def test_malformed_manifest_is_refused(data: bytes) -> None:
    """Although the machine was launched for it."""
    coordinator = launched_for(data)
    with pytest.raises(FormatError):
        coordinator.set_manifest(data)
    assert coordinator.state == "no-manifest"


def test_an_expired_manifest_is_not_set() -> None:
    """By the clock of the host: a convenience for the operator, and nothing that clients need."""
    expired = manifest_bytes(released=NOW - 100, expires=NOW)
    coordinator = launched_for(expired)
    with pytest.raises(PolicyError) as caught:
        coordinator.set_manifest(expired)
    assert caught.value.code == "manifest-expired"
    assert coordinator.state == "no-manifest"
