"""One join reads each quote, report, certificate, event log and GPU report of the evidence once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate

from confide.client.collateral.cache import Cache
from confide.client.collateral.finder import Finder
from confide.encoding import x509
from confide.encoding.canonical import json_encode
from confide.guest.coordinator.domain import Coordinator
from confide.guest.mesh.join import Node
from confide.protocol.coordinator import JoinReply, JoinRequest
from confide.protocol.evidence import Evidence, VtpmReport
from confide.protocol.gpu import GpuEvidence
from confide.protocol.manifest import Manifest
from confide.vendors.amd import report as amd
from confide.vendors.amd.certificates import EndorsementKey
from confide.vendors.intel import quote as intel
from confide.vendors.intel.pck import PckExtension
from confide.vendors.nvidia import spdm
from confide.vendors.tpm import structures as tpm
from confide.verify.service import verify_coordinator
from measure import eventlog
from tests.support import intel_certificates
from tests.support.joining import Setting
from tests.support.local_coordinator import LocalCoordinator
from tests.support.production import Production, manifest_value
from tests.support.simulated_machine import Clock, SimulatedMachine, manifest_bytes

PARSERS: dict[type, str] = {
    VtpmReport: "parse",
    tpm.Quote: "parse",
    amd.Report: "parse",
    EndorsementKey: "parse",
    intel.Quote: "parse",
    PckExtension: "read",
    GpuEvidence: "parse",
    spdm.Report: "parse",
    Evidence: "parse",
}
Counts = Counter[tuple[str, bytes]]


class Counted(LocalCoordinator):
    """Counts what the coordinator reads for one join, not what the node read before."""

    counts: Counts
    collateral_certificates: frozenset[bytes] = frozenset()

    def join(self, request: JoinRequest) -> JoinReply:
        self.counts.clear()
        reply = super().join(request)
        self.counts = self.counts.copy()
        return reply

    def check(self, *parsers: str) -> None:
        ignored = {digest_of(der) for der in self.collateral_certificates}
        check(self.counts, *parsers, ignored=ignored)


def check(counts: Counts, *parsers: str, ignored: Collection[bytes] = ()) -> None:
    """Each of these parsers was called, and none twice with the same bytes."""
    twice = [name for (name, read), times in counts.items() if times > 1 and read not in ignored]
    assert twice == []
    assert {name for name, _ in counts} >= set(parsers)


MakeRelay = Callable[[Coordinator], Counted]


@pytest.fixture
def relay_to(monkeypatch: pytest.MonkeyPatch) -> MakeRelay:
    """Gives a relay to a coordinator, with every parser counting its calls."""
    counts: Counts = Counter()
    for kind, method in PARSERS.items():
        name = f"{kind.__module__}.{kind.__name__}".removeprefix("confide.")
        monkeypatch.setattr(kind, method, counting(getattr(kind, method), name, counts))
    for function in (x509.load_certificate, tpm.parse_signature, eventlog.parse):
        counted = counting(function, function.__name__, counts)
        for module in [m for n, m in sys.modules.items() if n.startswith(("confide.", "measure."))]:
            for attribute in [a for a, v in vars(module).items() if v is function]:
                monkeypatch.setattr(module, attribute, counted)

    def make(coordinator: Coordinator) -> Counted:
        relay = Counted(coordinator)
        relay.counts = counts
        return relay

    return make


def counting(function: Callable[..., Any], name: str, counts: Counts) -> Callable[..., Any]:
    """The function, each of whose calls is noted with a digest of what it read."""

    def call(data: Any, *more: Any, **named: Any) -> Any:
        read = data.public_bytes(Encoding.DER) if isinstance(data, Certificate) else data
        counts[name, digest_of(read)] += 1
        return function(data, *more, **named)

    return call


def digest_of(data: object) -> bytes:
    return sha256(repr(data).encode()).digest()


def join_without_gpus(relay: LocalCoordinator, attester: Any, clock: Clock) -> None:
    node = Node(
        "secret-service",
        attester,
        relay,
        binding=sha256(relay.mesh().manifest).digest(),
        now=clock,
    )
    node.join()


def test_a_vtpm(relay_to: MakeRelay) -> None:
    machine = SimulatedMachine("coordinator")
    coordinator = Coordinator(machine, binding=machine.binding, now=Clock())
    coordinator.set_manifest(manifest_bytes())
    relay = relay_to(coordinator)
    join_without_gpus(relay, SimulatedMachine("secret-service"), Clock())
    relay.check(
        "protocol.evidence.Evidence",
        "protocol.evidence.VtpmReport",
        "vendors.tpm.structures.Quote",
        "parse_signature",
        "load_certificate",
        "parse",
    )


def test_tdx(monkeypatch: pytest.MonkeyPatch, relay_to: MakeRelay) -> None:
    production, clock = Production(), Clock(intel_certificates.NOW)
    production.pin(monkeypatch)
    attester = SimpleNamespace(evidence=production.tdx)
    coordinator = Coordinator(attester, binding=production.binding, now=clock)
    coordinator.set_manifest(json_encode(manifest_value()))
    coordinator.add_collateral(production.bundle().encode())
    relay = relay_to(coordinator)
    join_without_gpus(relay, attester, clock)
    relay.check(
        "protocol.evidence.Evidence",
        "vendors.intel.quote.Quote",
        "vendors.intel.pck.PckExtension",
        "load_certificate",
        "parse",
    )


def test_sev_snp_with_a_gpu(setting: Setting, relay_to: MakeRelay) -> None:
    relay = relay_to(setting.coordinator)
    setting.relay = relay
    # Two reference values come with the certificates of the same signer.
    signers = setting.production.nvidia.rim_chain
    relay.collateral_certificates = frozenset(
        authority.certificate.public_bytes(Encoding.DER) for authority in signers
    )
    setting.node().join()
    relay.check(
        "protocol.evidence.Evidence",
        "vendors.amd.report.Report",
        "vendors.amd.certificates.EndorsementKey",
        "protocol.gpu.GpuEvidence",
        "vendors.nvidia.spdm.Report",
        "load_certificate",
    )


def test_a_client_that_looks_up_collateral(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, relay_to: MakeRelay
) -> None:
    production, clock = Production(), Clock(intel_certificates.NOW)
    production.pin(monkeypatch)
    attester = SimpleNamespace(evidence=production.tdx)
    coordinator = Coordinator(attester, binding=production.binding, now=clock)
    pinned = json_encode(manifest_value())
    coordinator.set_manifest(pinned)
    counts = relay_to(coordinator).counts
    attestation = coordinator.attest(bytes(32))
    finder = Finder(
        production.bundle(), cache=Cache(tmp_path, print), fetcher=None, report=print, clock=clock
    )
    counts.clear()
    found = finder(attestation.evidence, Manifest.parse(pinned))
    verify_coordinator(
        attestation,
        manifest_pinned=pinned,
        nonce=bytes(32),
        collateral=found,
        now=intel_certificates.NOW,
    ).require()
    mesh = (attestation.root_ca, attestation.mesh_ca)
    check(
        counts,
        "protocol.evidence.Evidence",
        "vendors.intel.quote.Quote",
        "vendors.intel.pck.PckExtension",
        "parse",
        ignored={digest_of(der) for der in mesh},
    )
