"""Collateral for a coordinator: what `confide set` gives it, and what it says of that."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

import pytest

from confide.client import service
from confide.client.collateral.finder import offline
from confide.client.collateral.upload import give_collateral
from confide.encoding.canonical import json_encode
from confide.errors import PolicyError, VerificationError
from confide.guest.coordinator.domain import Coordinator
from confide.guest.mesh.coordinator import verify_mesh
from confide.protocol.collateral import Bundle, Item
from confide.protocol.coordinator import CollateralReply, RefusedItem
from confide.protocol.evidence import Evidence
from confide.verify.items.merge import Collateral
from tests.support.local_coordinator import LocalCoordinator
from tests.support.production import Production, manifest_value
from tests.support.simulated_amd import NOW
from tests.support.simulated_machine import Clock


@dataclass
class Holder:
    """Refuses the items whose names begin with this."""

    refuses: str = "-"
    given: list[Bundle] = field(default_factory=list)

    def add_collateral(self, bundle: Bundle) -> CollateralReply:
        self.given.append(bundle)
        refused = [name for name in bundle.items if name.startswith(self.refuses)]
        reasons = tuple(RefusedItem(name, "collateral-expired", "why") for name in refused)
        return CollateralReply((), (), reasons)


BUNDLE = Bundle({"amd/milan/crl": Item(b"", 0), "intel/crl/root": Item(b"", 0)})


def test_nothing_to_add_is_not_sent() -> None:
    holder = Holder()
    give_collateral(holder, Bundle())
    assert holder.given == []
    give_collateral(holder, BUNDLE)
    assert holder.given == [BUNDLE]


def test_an_item_that_is_refused() -> None:
    with pytest.raises(PolicyError) as caught:
        give_collateral(Holder("intel/"), BUNDLE)
    assert caught.value.code == "collateral-refused"
    assert "refuses 1 of 2 items" in str(caught.value)
    assert "intel/crl/root: collateral-expired: why" in str(caught.value)


@dataclass
class Attester:
    production: Production

    def evidence(self, report_data: bytes) -> Evidence:
        return self.production.snp(report_data, certificates=0)


class Client(LocalCoordinator):
    """CoordinatorClient without a network."""

    def set_manifest(self, manifest: bytes) -> bytes:
        return self.coordinator.set_manifest(manifest)

    def add_collateral(self, bundle: Bundle) -> CollateralReply:
        return self.coordinator.add_collateral(bundle.encode())


@pytest.mark.parametrize("set_already", [False, True])
def test_nodes_can_verify_a_coordinator_that_was_set(
    monkeypatch: pytest.MonkeyPatch, set_already: bool
) -> None:
    """The collateral for its own evidence comes with the manifest, or with the next `set`."""
    production, manifest = Production(), json_encode(manifest_value())
    production.pin(monkeypatch)
    attester, binding = Attester(production), production.binding
    client = Client(Coordinator(attester, binding=binding, now=Clock(NOW)))
    monkeypatch.setattr(service, "CoordinatorClient", lambda _: client)
    own = Bundle({n: i for n, i in production.bundle().items.items() if n.startswith("amd/")})
    of_nodes = {n: i for n, i in production.bundle().items.items() if n.startswith("nvidia/rim/")}
    if set_already:
        client.set_manifest(manifest)
        client.add_collateral(Bundle(of_nodes))

    def verify() -> None:
        binding = sha256(manifest).digest()
        verify_mesh(client, binding=binding, collateral=Collateral(), now=NOW)

    if set_already:
        with pytest.raises(VerificationError, match="'collateral'"):
            verify()
    service.set_manifest("http://coordinator", manifest, offline(own), now=Clock(NOW))
    verify()
    nodes = of_nodes.keys() if set_already else set()
    assert client.collateral().items.keys() == own.items.keys() | nodes
