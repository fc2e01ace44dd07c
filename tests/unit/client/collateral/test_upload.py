"""Collateral for a coordinator: an upload adds, and no stranger's item stands in its way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256

import pytest

from confide.client import service
from confide.client.collateral import upload
from confide.client.collateral.finder import offline
from confide.client.collateral.upload import give_collateral
from confide.encoding.canonical import json_encode
from confide.errors import VerificationError
from confide.guest.coordinator.domain import Coordinator
from confide.guest.mesh.coordinator import verify_mesh
from confide.protocol.collateral import Bundle, Item
from confide.protocol.evidence import Evidence
from tests.support.local_coordinator import LocalCoordinator
from tests.support.production import Production, manifest_value
from tests.support.simulated_amd import MADE, NOW, make_crl, root
from tests.support.simulated_machine import Clock

CRL, ARK = "amd/milan/crl", "amd/milan/ark"


@dataclass
class Holder:
    bundle: Bundle = field(default_factory=Bundle)
    calls: int = 0

    def collateral(self) -> Bundle:
        self.calls += 1
        return self.bundle

    def set_collateral(self, bundle: Bundle) -> None:
        self.calls += 1
        self.bundle = bundle


@pytest.fixture(scope="module")
def items() -> dict[str, Item]:
    crl = make_crl(issuer=root(), end=MADE + timedelta(days=365))
    return {CRL: Item(crl, NOW), ARK: Item(root().der, NOW)}


def test_what_is_there_stays(items: dict[str, Item]) -> None:
    holder = Holder(Bundle({ARK: items[ARK]}))
    held = give_collateral(holder, Bundle({CRL: items[CRL]}), now=NOW)
    assert held.items == holder.bundle.items == items


def test_the_uploaded_item_counts_whatever_the_other_one_says(items: dict[str, Item]) -> None:
    """A stranger's item that claims to come from the future."""
    strange = replace(items[ARK], fetched=NOW + 10**9, chain=b"strange")
    holder = Holder(Bundle({ARK: strange}))
    give_collateral(holder, Bundle(items), now=NOW)
    assert holder.bundle.items == items


def test_what_is_of_no_use_is_dropped(items: dict[str, Item]) -> None:
    stale = Item(make_crl(issuer=root(), end=MADE + timedelta(hours=1)), NOW)
    holder = Holder(Bundle({CRL: stale, "amd/genoa/ark": Item(b"junk", NOW), "a/b": stale}))
    give_collateral(holder, Bundle({ARK: items[ARK]}), now=NOW)
    assert holder.bundle.items == {ARK: items[ARK]}


@pytest.mark.parametrize("limit", ["MAX_BUNDLE", "MAX_ITEMS"])
def test_a_coordinator_that_somebody_has_filled(
    items: dict[str, Item], monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    bundle = Bundle({CRL: items[CRL]})
    size = {"MAX_BUNDLE": len(bundle.encode()), "MAX_ITEMS": 1}[limit]
    monkeypatch.setattr(upload, limit, size)
    holder = Holder(Bundle({ARK: items[ARK]}))
    assert give_collateral(holder, bundle, now=NOW) == holder.bundle == bundle


def test_nothing_to_add_is_not_sent() -> None:
    holder = Holder()
    give_collateral(holder, Bundle(), now=NOW)
    assert holder.calls == 0


@dataclass
class Attester:
    production: Production

    def evidence(self, report_data: bytes) -> Evidence:
        return self.production.snp(report_data, certificates=0)


class Client(LocalCoordinator):
    """CoordinatorClient without a network."""

    def set_manifest(self, manifest: bytes) -> bytes:
        return self.coordinator.set_manifest(manifest)

    def set_collateral(self, bundle: Bundle) -> None:
        self.coordinator.set_collateral(bundle.encode())


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
    client.set_collateral(Bundle(of_nodes))
    if set_already:
        client.set_manifest(manifest)

    def verify() -> None:
        verify_mesh(client, binding=sha256(manifest).digest(), now=NOW)

    if set_already:
        with pytest.raises(VerificationError, match="'collateral'"):
            verify()
    service.set_manifest("http://coordinator", manifest, offline(own), now=Clock(NOW))
    verify()
    assert client.collateral().items.keys() == own.items.keys() | of_nodes.keys()
