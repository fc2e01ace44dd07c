"""What a host can put between a node and its coordinator, and that it gains nothing.

A forged, relayed, replayed, truncated, slow or changing answer makes one attempt fail. The node
shows no evidence before a coordinator is verified, and joins the genuine one with the next attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from confide.errors import ConfideError, UnavailableError
from confide.guest.coordinator.domain import Coordinator
from confide.guest.mesh.join import RENEW_AFTER, Node
from confide.guest.mesh.one_mesh import GONE_AFTER
from confide.protocol.collateral import Bundle, Item
from confide.protocol.coordinator import Attestation, JoinReply, JoinRequest
from confide.protocol.launch import BINDING_PCR, UNBOUND, binding_pcr
from tests.support.local_coordinator import LocalCoordinator
from tests.support.mesh_nodes import BINDING, MANIFEST, new_coordinator, new_node
from tests.support.simulated_machine import (
    NOW,
    Clock,
    SimulatedMachine,
    manifest_bytes,
    manifest_value,
)

OTHER = manifest_bytes(models=[manifest_value()["models"][0] | {"name": "other"}])


@dataclass
class Host:
    """What a test can do: lie through the relay, with a coordinator of its own at hand."""

    relay: LocalCoordinator
    own: Coordinator

    def attestation(self, **changes: Any) -> None:
        self.relay.on_attestation = lambda genuine: replace(genuine, **changes)

    def other_machine(self, machine: SimulatedMachine) -> None:
        self.relay.coordinator = new_coordinator(Clock(), machine=machine)

    def cas(self) -> dict[str, bytes]:
        mesh = self.own.mesh()
        return {"root_ca": mesh.root_ca, "mesh_ca": mesh.mesh_ca}

    def other_manifest_everywhere(self) -> None:
        self.relay.coordinator = new_coordinator(Clock(), manifest=OTHER)

    def other_manifest_behind_ours(self) -> None:
        self.other_manifest_everywhere()
        self.relay.on_mesh = lambda reply: replace(reply, manifest=MANIFEST)

    def relayed_with_own_cas(self) -> None:
        """The genuine coordinator's fresh evidence, and beside it CAs whose keys the host has."""
        self.attestation(**self.cas())
        self.relay.on_mesh = lambda _: self.own.mesh()

    def replayed(self) -> None:
        old = self.relay.coordinator.attest(bytes(32))
        self.relay.on_attestation = lambda _: old

    def replayed_from_the_node(self) -> None:
        """What was recorded of the node's own earlier question."""
        seen: list[Attestation] = []

        def first(genuine: Attestation) -> Attestation:
            seen.append(genuine)
            return seen[0]

        self.relay.on_attestation = first

    def other_nonce(self) -> None:
        self.relay.on_nonce = lambda _: bytes(32)

    def other_image(self) -> None:
        self.other_machine(SimulatedMachine("coordinator", events={4: bytes(32)}))

    def worker_as_coordinator(self) -> None:
        """A genuine machine of the manifest, whose program was made to say something else."""
        self.other_machine(SimulatedMachine("worker-cpu"))

    def launched_for_another_manifest(self) -> None:
        """A genuine image that was launched for OTHER, whose program serves our manifest."""
        self.other_machine(SimulatedMachine("coordinator", manifest=OTHER))

    def launched_for_none(self) -> None:
        machine = SimulatedMachine("coordinator")
        machine.pcrs[BINDING_PCR] = binding_pcr(UNBOUND)
        self.other_machine(machine)

    def never_bound(self) -> None:
        machine = SimulatedMachine("coordinator")
        machine.pcrs[BINDING_PCR] = bytes(32)
        self.other_machine(machine)

    def mesh_ca_of_another_root(self) -> None:
        self.attestation(mesh_ca=self.cas()["mesh_ca"])

    def other_history(self) -> None:
        self.attestation(history=self.own.attest(bytes(32)).history)

    def forged_time(self) -> None:
        """The evidence binds the time, so none may be put in its place, however near."""
        self.relay.on_attestation = lambda genuine: replace(genuine, time=genuine.time + 1)

    def turned_coordinator(self) -> None:
        """The host of the genuine coordinator has turned its clock."""
        self.relay.coordinator = new_coordinator(Clock(NOW + 21 * 86400))

    def other_place(self) -> None:
        self.attestation(index=1, path=(bytes(32),))

    def no_manifest_yet(self) -> None:
        """Genuine and fresh, but the coordinator has no mesh yet."""
        new = Coordinator(SimulatedMachine("coordinator"), binding=BINDING, now=Clock())
        self.relay.on_nonce = lambda nonce: self._attest(new, nonce)

    def _attest(self, coordinator: Coordinator, nonce: bytes) -> bytes:
        answer = coordinator.attest(nonce)
        self.relay.on_attestation = lambda _: answer
        return nonce

    def truncated(self) -> None:
        self.relay.on_bytes = lambda data: data[:-1]

    def longer(self) -> None:
        self.relay.on_bytes = lambda data: data + b"\0"

    def nothing(self) -> None:
        self.relay.on_bytes = lambda _: b""

    def nested(self) -> None:
        self.relay.on_bytes = lambda _: b"\x81" * 100_000

    def no_evidence(self) -> None:
        self.attestation(evidence=b"")

    def truncated_manifest(self) -> None:
        self.relay.on_mesh = lambda reply: replace(reply, manifest=MANIFEST[:-1])

    def empty_manifest(self) -> None:
        self.relay.on_mesh = lambda reply: replace(reply, manifest=b"")


WRONG, BAD = "wrong-manifest", "coordinator-not-verified"
LIES: dict[Callable[[Host], None], tuple[str, str]] = {
    Host.other_manifest_everywhere: (WRONG, "launched for"),
    Host.truncated_manifest: (WRONG, "launched for"),
    Host.empty_manifest: (WRONG, "launched for"),
    Host.other_manifest_behind_ours: (BAD, "'manifest'"),
    Host.relayed_with_own_cas: (BAD, "'quote binding'"),
    Host.replayed: (BAD, "'quote binding'"),
    Host.other_nonce: (BAD, "'quote binding'"),
    Host.other_image: (BAD, "'PCR 4 "),
    Host.worker_as_coordinator: (BAD, "'PCR 0 "),
    Host.launched_for_another_manifest: (BAD, "'launch binding'"),
    Host.launched_for_none: (BAD, "'launch binding'"),
    Host.never_bound: (BAD, "'launch binding'"),
    Host.mesh_ca_of_another_root: (BAD, "'quote binding'"),
    Host.other_history: (BAD, "'quote binding'"),
    Host.forged_time: (BAD, "'quote binding'"),
    Host.turned_coordinator: ("clocks-apart", "the coordinator says 2027-02-05 08:00:00 UTC"),
    Host.other_place: (BAD, "'quote binding'"),
    Host.no_manifest_yet: (BAD, "'manifest'"),
    Host.no_evidence: (BAD, "'evidence'"),
    Host.truncated: ("bad-cbor", ""),
    Host.longer: ("not-canonical", ""),
    Host.nothing: ("bad-cbor", ""),
    Host.nested: ("bad-cbor", ""),
}


@pytest.fixture
def host(relay: LocalCoordinator, clock: Clock) -> Host:
    return Host(relay, new_coordinator(clock))


def fails(node: Node) -> ConfideError:
    with pytest.raises(ConfideError) as caught:
        node.join()
    return caught.value


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_lie_before_the_evidence(
    host: Host, node: Node, machine: SimulatedMachine, lie: Callable[[Host], None]
) -> None:
    genuine = host.relay.coordinator
    code, named = LIES[lie]
    lie(host)
    error = fails(node)
    assert (error.code, machine.quotes, node.state) == (code, 0, "starting")
    assert named in str(error)
    host.relay.only_carries(genuine)
    assert node.join().mesh_ca == genuine.mesh().mesh_ca


def test_a_proof_that_this_node_has_seen_before(
    host: Host, node: Node, machine: SimulatedMachine
) -> None:
    host.replayed_from_the_node()
    joined = node.join()
    error = fails(node)
    assert (error.code, machine.quotes) == (BAD, 1)
    assert "'quote binding'" in str(error)
    assert node.membership() is joined


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_lie_to_a_member(
    host: Host, node: Node, monotonic: Clock, lie: Callable[[Host], None]
) -> None:
    """It does not renew its certificate with a liar, and does not end because of one."""
    joined = node.join()
    monotonic.now += RENEW_AFTER
    lie(host)
    for _ in range(9):
        node.step()
        assert (node.membership(), node.reason) == (joined, LIES[lie][0])
        monotonic.now += GONE_AFTER / 4


def lost(*_: object) -> UnavailableError:
    raise UnavailableError("lost", "the answer was lost")


QUESTIONS = ("on_mesh", "on_nonce", "on_bytes", "on_collateral", "on_challenge")


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_that_does_not_come(
    host: Host, node: Node, machine: SimulatedMachine, question: str
) -> None:
    setattr(host.relay, question, lost)
    assert (fails(node).code, machine.quotes) == ("lost", 0)
    host.relay.only_carries(host.relay.coordinator)
    node.join()


def test_no_mesh_is_taken_before_one_is_verified(host: Host, node: Node) -> None:
    """Nor is the host's own mesh, which it showed before."""
    genuine = host.relay.coordinator
    for lie in LIES:
        lie(host)
        fails(node)
        host.relay.only_carries(genuine)
    assert node.join().mesh_ca == genuine.mesh().mesh_ca


@pytest.mark.parametrize("question", ["on_request", "on_reply"])
def test_a_verified_mesh_stays_ours_even_if_joining_it_failed(
    host: Host, node: Node, question: str
) -> None:
    """Evidence for it has left the machine: its key may be certified there."""
    setattr(host.relay, question, lost)
    assert fails(node).code == "lost"
    host.relay.only_carries(host.own)
    assert fails(node).code == "mesh-changed"


def test_another_coordinator_answers_the_challenge(
    host: Host, node: Node, machine: SimulatedMachine
) -> None:
    """The evidence is for the mesh that was verified, so no other coordinator can use it."""
    genuine = host.relay.coordinator
    host.relay.on_challenge = lambda _: host.own.challenge()
    assert (fails(node).code, machine.quotes) == ("stale-nonce", 1)
    host.relay.on_request = lambda request: _join(host.own, request)
    assert "'quote binding'" in str(fails(node))
    host.relay.only_carries(genuine)
    node.join()


def test_another_coordinator_answers_the_join(host: Host, node: Node) -> None:
    genuine = host.relay.coordinator
    host.relay.on_request = lambda request: _join(host.own, request)
    assert fails(node).code == "stale-nonce"
    host.relay.only_carries(genuine)
    node.join()


def _join(coordinator: Coordinator, request: JoinRequest) -> JoinRequest:
    coordinator.join(request)
    return request


@pytest.mark.parametrize("fields", [("certificate",), ("mesh_ca", "root_ca")])
def test_the_certificate_of_another_mesh(
    host: Host, node: Node, clock: Clock, fields: tuple[str, ...]
) -> None:
    """Of a genuine coordinator, for a node like this one; or with our certificate, its CAs."""
    genuine = host.relay.coordinator
    other = new_node(LocalCoordinator(host.own), clock, Clock(100)).join()

    def exchange(reply: JoinReply) -> JoinReply:
        return replace(reply, **{name: getattr(other, name) for name in fields})

    host.relay.on_reply = exchange
    assert fails(node).code in {"bad-chain", "mesh-changed"}
    host.relay.only_carries(genuine)
    node.join()


def test_evidence_that_was_taken_elsewhere(host: Host, node: Node) -> None:
    """A host that carries a node's evidence to another mesh of the same manifest gets nothing."""
    taken: list[JoinRequest] = []

    def take(request: JoinRequest) -> JoinRequest:
        taken.append(request)
        return request

    host.relay.on_challenge = lambda _: host.own.challenge()
    host.relay.on_request = take
    fails(node)
    with pytest.raises(ConfideError) as caught:
        host.own.join(taken[0])
    assert caught.value.code == "not-verified"


def test_hostile_collateral_is_only_carried(host: Host, node: Node) -> None:
    """A machine that needs none does not read it; one that does names the check that fails."""
    host.relay.on_collateral = lambda _: Bundle({"amd/milan/crl": Item(b"\0" * 1000, NOW)})
    node.join()


@pytest.mark.parametrize("days", [-2, 181])
def test_a_clock_outside_of_the_manifests_time(
    host: Host, node: Node, clock: Clock, machine: SimulatedMachine, days: int
) -> None:
    """The node's clock is its host's, which can only keep the node out."""
    clock.now = NOW + days * 86400
    error = fails(node)
    assert (error.code, machine.quotes) == (BAD, 0)
    clock.now = NOW
    node.join()
